// The game: a maze, what moves in it, and who walks through it. Plays without any server.

import { Maze } from "./maze.js";
import { Player } from "./player.js";
import { Renderer } from "./renderer.js";
import { Scene, lampsOf } from "./scene.js";

const SEED = 5;
const LONGEST_STEP_SECS = 0.1;
const LONGEST_PLAY_SECS = 0.6;

export class World {
  #renderer;
  #scene;
  #player;
  #timeSecs = 0;

  constructor(canvas, { width, height }) {
    const maze = new Maze(SEED);
    const lamps = lampsOf(maze);
    this.#renderer = new Renderer(canvas, { width, height, maze, lamps });
    this.#scene = new Scene(maze, lamps, SEED);
    this.#player = new Player(maze, Math.floor(Math.random() * 2 ** 32));
  }

  get isPilot() {
    return this.#player.isPilot;
  }

  get stateVector() {
    return this.#player.stateVector;
  }

  get isLost() {
    return this.#renderer.isLost;
  }

  /** Let time pass, and draw. After a pause the world goes on where it was. */
  play(secs, wish) {
    for (let left = Math.min(secs, LONGEST_PLAY_SECS); left > 0; left -= LONGEST_STEP_SECS) {
      const step = Math.min(left, LONGEST_STEP_SECS);
      this.#timeSecs += step;
      this.#player.step(step, wish);
    }
    this.#renderer.draw(this.#scene.seenBy(this.#player.camera, this.#timeSecs));
  }

  /** The luma of the frame that was drawn last: Uint8Array, from the top. */
  readLuma() {
    return this.#renderer.readLuma();
  }
}
