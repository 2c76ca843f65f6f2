-- probability_of: the probability of log odds; an error where they are no number, as those of a damaged embedding.
--
-- The log odds are named in a lambda, so that a function within them is called once. NULL gives NULL.

create or replace macro probability_of(log_odds) as list_transform(
    [log_odds::double],
    lambda odds: case
        when not isfinite(odds) then error('an embedding holds NaN or infinity; `histolake run` makes it anew')
        else 1 / (1 + exp(-odds))
    end
)[1];
