// Pointer, wheel and keys on a timeline.

/** What is done on a timeline. */
export interface StageEvents {
  /** The pointer is over a rank, at a share of the width; null when it left. */
  hover: (row: number, at: { rank: number; share: number } | null) => void;
  /** A rank and a moment are chosen. */
  pick: (row: number, at: { rank: number; share: number }) => void;
  /** The shown part is enlarged by a factor around a share of the width. */
  zoom: (factor: number, share: number) => void;
  /** The shown part moves by a share of its length. */
  pan: (share: number) => void;
  /** A key; true where it was taken. */
  key: (row: number, key: string) => boolean;
  /** The timeline has the focus. */
  focused: (row: number) => void;
}

/** What a timeline knows of itself. */
export interface StageFacts {
  /** Its row. */
  index: () => number;
  /** Pixels from a rank to the next. */
  pitch: () => number;
  /** Ranks. */
  ranks: () => number;
}

/** Listens to a timeline. */
export function listen(stage: HTMLElement, events: StageEvents, facts: StageFacts): void {
  let pressed: { x: number; moved: boolean } | null = null;
  const at = ({ clientX, clientY }: MouseEvent): { rank: number; share: number } => {
    const { left, top, width } = stage.getBoundingClientRect();
    const rank = Math.floor((clientY - top) / facts.pitch());
    return {
      rank: Math.max(0, Math.min(facts.ranks() - 1, rank)),
      share: Math.max(0, Math.min(1, (clientX - left) / (width || 1))),
    };
  };
  stage.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    pressed = { x: event.clientX, moved: false };
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener('pointermove', (event) => {
    if (!pressed) {
      events.hover(facts.index(), at(event));
      return;
    }
    const moved = event.clientX - pressed.x;
    if (!pressed.moved && Math.abs(moved) < 4) return;
    pressed.moved = true;
    pressed.x = event.clientX;
    stage.classList.add('drag');
    events.pan(-moved / (stage.clientWidth || 1));
  });
  const release = (event: PointerEvent): void => {
    if (pressed && !pressed.moved && event.type === 'pointerup')
      events.pick(facts.index(), at(event));
    pressed = null;
    stage.classList.remove('drag');
  };
  stage.addEventListener('pointerup', release);
  stage.addEventListener('pointercancel', release);
  stage.addEventListener('pointerleave', () => {
    events.hover(facts.index(), null);
  });
  stage.addEventListener(
    'wheel',
    (event) => {
      const pixels = event.deltaMode === 0 ? 1 : 30;
      if (event.ctrlKey || event.metaKey)
        events.zoom(1.0018 ** (-event.deltaY * pixels), at(event).share);
      else if (event.shiftKey)
        events.pan(((event.deltaY || event.deltaX) * pixels) / stage.clientWidth);
      else if (Math.abs(event.deltaX) > Math.abs(event.deltaY))
        events.pan((event.deltaX * pixels) / stage.clientWidth);
      else return;
      event.preventDefault();
    },
    { passive: false },
  );
  stage.addEventListener('keydown', (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (!events.key(facts.index(), event.key)) return;
    event.preventDefault();
    event.stopPropagation();
  });
  stage.addEventListener('focus', () => {
    events.focused(facts.index());
  });
}
