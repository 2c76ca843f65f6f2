-- predict: probability of tumor, 0 to 1, that the model gives an embedding.
--
-- Linear models are computed here, from their columns in `models`; others by the Python function predict_udf, which
-- also tells what is wrong where there is no such model. The cases ask for the model, never for the embedding: each
-- row has one of them, so that predict(…, embed(…)) embeds once. A NULL argument gives NULL.

create or replace view linear_models as  -- linear_model: a name that a column of the caller's does not have
select model_id as linear_model, slopes, intercept, sum_bits
from models
where slopes is not null;

create or replace macro predict(of_model, embedding) as
case (select sum_bits from linear_models where linear_model = of_model)
    when 32
        then
            probability_of(
                list_inner_product(embedding::float[], (select slopes from linear_models where linear_model = of_model))
                + (select intercept from linear_models where linear_model = of_model)
            )
    when 64
        then
            probability_of(
                list_inner_product(
                    embedding::double[], (select slopes from linear_models where linear_model = of_model)::double[]
                )
                + (select intercept from linear_models where linear_model = of_model)
            )
    else predict_udf(of_model, embedding)
end;
