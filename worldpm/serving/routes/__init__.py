"""The endpoints, one module a family of clients."""
