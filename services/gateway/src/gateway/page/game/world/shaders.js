// GLSL: the world, and the luma of a finished frame.

export const MAX_LIGHTS = 6;

export const WORLD_VERTEX = `#version 300 es
uniform mat4 u_clip_from_world, u_world_from_model;
layout(location = 0) in vec3 a_position;
layout(location = 1) in vec3 a_normal;
layout(location = 2) in vec3 a_texture;  // u, v, surface
layout(location = 3) in vec3 a_tint;
invariant gl_Position;
out vec3 v_position, v_normal, v_texture, v_tint;
void main() {
  vec4 world = u_world_from_model * vec4(a_position, 1.0);
  v_position = world.xyz;
  v_normal = mat3(u_world_from_model) * a_normal;
  v_texture = a_texture;
  v_tint = a_tint;
  gl_Position = u_clip_from_world * world;
}`;

/** Of what is drawn first for its depth alone, so that no pixel is lit that another one hides. */
export const DEPTH_FRAGMENT = `#version 300 es
precision lowp float;
out vec4 unseen;
void main() { unseen = vec4(0); }`;

export const WORLD_FRAGMENT = `#version 300 es
precision highp float;
precision highp sampler2DArray;
uniform sampler2DArray u_surfaces;
uniform vec3 u_eye, u_paint, u_fog;
uniform float u_glow, u_room;  // how much an object shines by itself; height of the room
uniform vec4 u_light_places[${MAX_LIGHTS}];  // x, y, z, reach
uniform vec3 u_light_colors[${MAX_LIGHTS}];
in vec3 v_position, v_normal, v_texture, v_tint;
out vec4 color;

vec3 bumped(vec3 normal, vec2 slope) {
  vec3 across = abs(normal.x) > 0.5 ? vec3(0, 0, 1) : vec3(1, 0, 0);
  vec3 along = abs(normal.y) > 0.5 ? vec3(0, 0, 1) : vec3(0, 1, 0);
  return normalize(normal - 3.0 * (slope.x * across + slope.y * along));
}

void main() {
  vec4 surface = texture(u_surfaces, v_texture);
  vec3 normal = bumped(normalize(v_normal), (surface.gb - 0.5) * 2.0);
  vec3 to_eye = u_eye - v_position;
  float distance_to_eye = length(to_eye);
  to_eye /= distance_to_eye;
  // Walls are darker where they meet floor and ceiling.
  float corner = min(v_position.y, u_room - v_position.y);
  float openness = abs(v_normal.y) > 0.5 ? 1.0 : mix(0.4, 1.0, smoothstep(0.0, 0.3, corner));
  vec3 light = vec3(0.06, 0.066, 0.085) * (1.0 + 0.4 * normal.y);
  vec3 gloss = vec3(0);
  for (int n = 0; n < ${MAX_LIGHTS}; n++) {
    vec3 to_light = u_light_places[n].xyz - v_position;
    float away = length(to_light);
    if (away >= u_light_places[n].w) continue;  // most are, and a processor may draw this
    to_light /= away;
    float reach = max(0.0, 1.0 - away / u_light_places[n].w);
    float strength = reach * reach / (0.25 + away * away);
    light += u_light_colors[n] * strength * max(0.0, dot(normal, to_light));
    float glint = max(0.0, dot(normal, normalize(to_light + to_eye)));
    glint *= glint; glint *= glint; glint *= glint; glint *= glint; glint *= glint;
    gloss += u_light_colors[n] * strength * glint;
  }
  vec3 paint = surface.r * u_paint * v_tint;
  vec3 lit = paint * (light * openness + u_glow) + 0.3 * surface.r * gloss + 1.5 * surface.a * u_paint * v_tint;
  lit = mix(u_fog, lit, exp(-0.012 * distance_to_eye * distance_to_eye));
  vec3 film = lit * (2.51 * lit + 0.03) / (lit * (2.43 * lit + 0.59) + 0.14);  // ACES, fitted by Narkowicz
  color = vec4(pow(clamp(film, 0.0, 1.0), vec3(1.0 / 2.2)), 1);
}`;

export const WHOLE_VERTEX = `#version 300 es
void main() { gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0, 1); }`;

/** Luma (ITU-R BT.601) of four pixels in each texel, the picture's first row first. */
export const LUMA_FRAGMENT = `#version 300 es
precision highp float;
uniform sampler2D u_frame;
out vec4 luma;
void main() {
  ivec2 at = ivec2(gl_FragCoord.xy);
  int row = textureSize(u_frame, 0).y - 1 - at.y;  // v grows down, OpenGL's rows grow up: turned over here alone
  vec4 four;
  for (int n = 0; n < 4; n++) {
    four[n] = dot(texelFetch(u_frame, ivec2(4 * at.x + n, row), 0).rgb, vec3(0.299, 0.587, 0.114));
  }
  luma = four;
}`;
