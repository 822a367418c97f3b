"""The RPCs: from request to response, and the messages."""
