// Shows the document. Must not know what is in it.
"use strict";

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  deepLinking: true,
  validatorUrl: null, // else the page would send the document's address to a validator on the internet
  requestInterceptor: (request) => prepared(request),
});
