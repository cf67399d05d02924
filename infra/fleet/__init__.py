"""The task service on several AWS machines, as a Pulumi program in small rooms.

Must not know how a task is done; the machines run the same image as docker-compose.yml.
"""
