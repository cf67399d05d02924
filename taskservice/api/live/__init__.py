"""What a stream of events needs: its client's end of the connection, and its events as bytes."""
