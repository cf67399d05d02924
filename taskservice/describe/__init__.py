"""DOC/api.md and the Postman collection, both written from the OpenAPI document: `python -m taskservice.describe`.

Must not know any route by name.
"""
