"""Live streams: what collectors read right now, joined to what is stored, over one WebSocket."""
