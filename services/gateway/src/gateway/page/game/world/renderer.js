// Draws the world into a small frame, shows it, and reads its luma back without a stall.

import { blit, contextOf, layersOf, meshOf, programOf, smoothTargetOf, targetOf } from "./gpu.js";
import { WALL_HEIGHT, ballMesh, crystalMesh, mazeMesh } from "./meshes.js";
import { DEPTH_FRAGMENT, LUMA_FRAGMENT, WHOLE_VERTEX, WORLD_FRAGMENT, WORLD_VERTEX } from "./shaders.js";
import { SURFACES, TEXTURE_SIZE, paintedSurfaces } from "./textures.js";

const VERTEX_PARTS = [3, 3, 3, 3];
const SAMPLES_OF_A_PIXEL = 4;
const FIELD_OF_VIEW = 1.15, NEAR = 0.05, FAR = 40;
const FOG = [0.012, 0.014, 0.022];
const FENCE_POLL_MS = 2;
const IDENTITY = Float32Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1);

export class Renderer {
  #gl;
  #width;
  #height;
  #world;
  #depth;
  #luma;
  #meshes;
  #surfaces;
  #smooth;
  #frame;
  #packed;
  #pixels;

  /** The canvas gets the size of the frame; its width is a multiple of four. */
  constructor(canvas, { width, height, maze, lamps }) {
    [canvas.width, canvas.height, this.#width, this.#height] = [width, height, width, height];
    const gl = (this.#gl = contextOf(canvas));
    this.#world = programOf(gl, WORLD_VERTEX, WORLD_FRAGMENT);
    this.#depth = programOf(gl, WORLD_VERTEX, DEPTH_FRAGMENT);
    this.#luma = programOf(gl, WHOLE_VERTEX, LUMA_FRAGMENT);
    this.#meshes = {
      maze: meshOf(gl, mazeMesh(maze, lamps), VERTEX_PARTS),
      ball: meshOf(gl, ballMesh(SURFACES.mosaic), VERTEX_PARTS),
      crystal: meshOf(gl, crystalMesh(SURFACES.slab), VERTEX_PARTS),
    };
    this.#surfaces = layersOf(gl, paintedSurfaces(), TEXTURE_SIZE);
    this.#smooth = smoothTargetOf(gl, width, height, SAMPLES_OF_A_PIXEL);
    this.#frame = targetOf(gl, width, height);
    this.#packed = targetOf(gl, width / 4, height);
    this.#pixels = gl.createBuffer();
  }

  /** Whether the graphics device went away: a sleeping laptop, a driver that was restarted. */
  get isLost() {
    return this.#gl.isContextLost();
  }

  /** Draw a scene {eye, yaw, pitch, lights, objects}; see scene.js. */
  draw(scene) {
    const gl = this.#gl;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.#smooth.framebuffer);
    gl.viewport(0, 0, this.#width, this.#height);
    gl.enable(gl.DEPTH_TEST);
    gl.clearColor(0, 0, 0, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, this.#surfaces);
    gl.depthFunc(gl.LEQUAL);
    gl.colorMask(false, false, false, false);
    this.#drawAll(this.#depth, scene);
    gl.colorMask(true, true, true, true);
    this.#drawAll(this.#world, scene);
    blit(gl, this.#smooth.framebuffer, this.#frame.framebuffer, this.#width, this.#height);
    blit(gl, this.#frame.framebuffer, null, this.#width, this.#height);
  }

  #drawAll({ program, uniforms }, { eye, yaw, pitch, lights, objects }) {
    const gl = this.#gl;
    gl.useProgram(program);
    gl.uniformMatrix4fv(uniforms.u_clip_from_world, false, clipFromWorld(eye, yaw, pitch, this.#width / this.#height));
    gl.uniform3fv(uniforms.u_eye, eye);
    gl.uniform3fv(uniforms.u_fog, FOG);
    gl.uniform1f(uniforms.u_room, WALL_HEIGHT);
    gl.uniform4fv(uniforms.u_light_places, lights.flatMap(({ place, reach }) => [...place, reach]));
    gl.uniform3fv(uniforms.u_light_colors, lights.flatMap(({ color }) => color));
    this.#drawMesh(uniforms, this.#meshes.maze, { worldFromModel: IDENTITY, color: [1, 1, 1], glow: 0 });
    for (const object of objects) this.#drawMesh(uniforms, this.#meshes[object.mesh], object);
  }

  #drawMesh(uniforms, { array, count }, { worldFromModel, color, glow }) {
    const gl = this.#gl;
    gl.uniformMatrix4fv(uniforms.u_world_from_model, false, worldFromModel);
    gl.uniform3fv(uniforms.u_paint, color);
    gl.uniform1f(uniforms.u_glow, glow);
    gl.bindVertexArray(array);
    gl.drawArrays(gl.TRIANGLES, 0, count);
  }

  /**
   * The luma of the frame that was drawn last: Uint8Array, from the top. The page compares whole pictures, so
   * the whole one is read; a game that only sends samples would gather those alone, as the Unity package does.
   */
  async readLuma() {
    const gl = this.#gl;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.#packed.framebuffer);
    gl.viewport(0, 0, this.#packed.width, this.#packed.height);
    gl.disable(gl.DEPTH_TEST);
    gl.useProgram(this.#luma.program);
    gl.bindTexture(gl.TEXTURE_2D, this.#frame.texture);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.bindBuffer(gl.PIXEL_PACK_BUFFER, this.#pixels);
    // New storage each time: Chromium complains of a buffer that is written twice.
    gl.bufferData(gl.PIXEL_PACK_BUFFER, this.#width * this.#height, gl.STREAM_READ);
    gl.readPixels(0, 0, this.#packed.width, this.#packed.height, gl.RGBA, gl.UNSIGNED_BYTE, 0);
    gl.bindBuffer(gl.PIXEL_PACK_BUFFER, null);
    await this.#done();
    const luma = new Uint8Array(this.#width * this.#height);
    gl.bindBuffer(gl.PIXEL_PACK_BUFFER, this.#pixels);
    gl.getBufferSubData(gl.PIXEL_PACK_BUFFER, 0, luma);
    gl.bindBuffer(gl.PIXEL_PACK_BUFFER, null);
    return luma;
  }

  /** When the device has done what it was told so far. */
  async #done() {
    const gl = this.#gl;
    const fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
    while (gl.clientWaitSync(fence, 0, 0) === gl.TIMEOUT_EXPIRED) {
      await new Promise(next => setTimeout(next, FENCE_POLL_MS));
    }
    gl.deleteSync(fence);
  }
}

/** Column by column. yaw 0 looks north, along -z, and grows to the right; pitch grows upwards. */
function clipFromWorld([x, y, z], yaw, pitch, aspect) {
  const scale = 1 / Math.tan(FIELD_OF_VIEW / 2);
  const depth = [(FAR + NEAR) / (NEAR - FAR), (2 * FAR * NEAR) / (NEAR - FAR)];
  const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
  const right = [cy, 0, sy], up = [-sy * sp, cp, cy * sp], back = [-sy * cp, -sp, cy * cp];
  const from = axis => -(axis[0] * x + axis[1] * y + axis[2] * z);
  const columns = [0, 1, 2].map(n => [(scale / aspect) * right[n], scale * up[n], depth[0] * back[n], -back[n]]);
  const last = [(scale / aspect) * from(right), scale * from(up), depth[0] * from(back) + depth[1], -from(back)];
  return Float32Array.from([...columns, last].flat());
}
