"""The catalogue of mistakes: for each layer what people and kernels get wrong, as changes to the reference."""
