// Steering: arrows or WASD, and dragging on the picture. Keys work while no control of the page has the focus
// that needs them itself.

const KEYS = {
  ArrowUp: ["forward", 1], KeyW: ["forward", 1],
  ArrowDown: ["forward", -1], KeyS: ["forward", -1],
  ArrowLeft: ["turn", -1], KeyA: ["turn", -1],
  ArrowRight: ["turn", 1], KeyD: ["turn", 1],
};
const DRAG_PX = 70;
const TAKES_ALL = "select, textarea, input:not([type='checkbox'], [type='range'])", TAKES_ARROWS = "input[type='range']";

export class Controls {
  #pressed = new Set();
  #drag = null;
  /** Whether what was done last on the page was done by pointer. */
  #isPointing = false;

  constructor(screen) {
    addEventListener("keydown", event => {
      this.#isPointing = false;
      this.#key(event, true);
    });
    addEventListener("keyup", event => this.#key(event, false));
    addEventListener("blur", () => {
      this.#pressed.clear();
      this.#drag = null;
    });
    addEventListener("pointerdown", () => { this.#isPointing = true; });
    addEventListener("change", ({ target }) => this.#letGo(target));
    screen.addEventListener("pointerdown", event => this.#beginDrag(screen, event));
    screen.addEventListener("pointermove", event => this.#moveDrag(event));
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) screen.addEventListener(end, () => { this.#drag = null; });
  }

  /** {forward, turn} in -1..1. */
  get wish() {
    const wish = { forward: 0, turn: 0, ...this.#drag?.wish };
    for (const code of this.#pressed) wish[KEYS[code][0]] += KEYS[code][1];
    return { forward: clamp(wish.forward), turn: clamp(wish.turn) };
  }

  #key(event, isDown) {
    const isBusy = event.ctrlKey || event.metaKey || event.altKey || isTaken(event);
    if (!Object.hasOwn(KEYS, event.code) || (isDown && isBusy)) return;
    if (isDown) {
      event.preventDefault();
      this.#pressed.add(event.code);
    } else this.#pressed.delete(event.code);
  }

  /** A list in which was chosen would take the next steering keys for another choice. Who chose by keyboard needs the place. */
  #letGo(control) {
    if (this.#isPointing && control.matches("select")) control.blur();
  }

  /** Not with what opens the menu (on a Mac that is Ctrl, too): where it opens at once, nobody hears of the button's end. */
  #beginDrag(screen, { pointerId, button, ctrlKey, clientX, clientY }) {
    if (button !== 0 || ctrlKey) return;
    screen.setPointerCapture(pointerId);
    this.#drag = { from: [clientX, clientY], wish: { forward: 0, turn: 0 } };
  }

  #moveDrag({ clientX, clientY }) {
    if (!this.#drag) return;
    const [x, y] = this.#drag.from;
    this.#drag.wish = { forward: clamp((y - clientY) / DRAG_PX), turn: clamp((clientX - x) / DRAG_PX) };
  }
}

/** Whether the control that has the focus needs the key itself. */
function isTaken({ target, code }) {
  return target.matches?.(TAKES_ALL) || (code.startsWith("Arrow") && target.matches?.(TAKES_ARROWS));
}

const clamp = value => Math.min(1, Math.max(-1, value));
