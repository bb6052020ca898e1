// The operations of /openapi.json, by Swagger UI, which the classic script before this module defines.

import { token } from "../gateway.js";

const HTTP_BEARER = "HTTPBearer"; // what FastAPI calls the header with the token

const shown = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#operations",
  validatorUrl: null, // a badge from another host
  deepLinking: true,
  onComplete: () => token.get() && shown.preauthorizeApiKey(HTTP_BEARER, token.get()),
});
