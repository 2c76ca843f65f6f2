"""SQL functions that turn pixels, annotations and embeddings into columns."""
