// Without the bundle the page keeps its link to the document.
if (window.SwaggerUIBundle) {
  window.SwaggerUIBundle({
    url: "/api/v1/openapi.json",
    dom_id: "#api",
    deepLinking: true,
    persistAuthorization: false,
    tryItOutEnabled: true,
  });
}
