import { signal } from "@preact/signals";

// One short message at the bottom: something failed, or was copied.

const text = signal("");
let timer: ReturnType<typeof setTimeout> | undefined;

export function toast(message: string): void {
  text.value = message;
  clearTimeout(timer);
  timer = setTimeout(() => (text.value = ""), 5000);
}

/** Runs an action of the user; what fails is told in a toast. Returns whether it worked. */
export async function attempt(action: () => Promise<unknown>): Promise<boolean> {
  try {
    await action();
    return true;
  } catch (err) {
    toast(err instanceof Error ? err.message : String(err));
    return false;
  }
}

export function Toast() {
  return (
    <div class="toast-area" role="status" aria-live="polite">
      {text.value !== "" && <div class="toast" data-testid="toast">{text.value}</div>}
    </div>
  );
}
