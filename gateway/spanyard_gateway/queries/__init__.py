"""SQL text with bound parameters, one module per signal; what comes out is the API's items."""
