"""An agent server that answers customers of a web shop: plan → tools → answer, all offline."""
