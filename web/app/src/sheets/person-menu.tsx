import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";

/** What one can do with somebody. Nothing happens by the first tap, and blocking asks once more. */
export function PersonMenu(props: { user: string; name: string; block: () => Promise<unknown>; children?: (act: (f: () => Promise<unknown>) => () => Promise<void>) => ComponentChildren }) {
  const [open, setOpen] = useState(false);
  const [sure, setSure] = useState(false);
  const { name } = props;
  const act = (action: () => Promise<unknown>) => async () => {
    await action();
    setOpen(false);
    setSure(false);
  };
  return (
    <>
      <button type="button" class="icon-button small" aria-label={`More about ${name}`} aria-expanded={open} data-testid={`menu-${name}`}
        onClick={() => { setOpen(!open); setSure(false); }}>
        <Icon name="more" />
      </button>
      {open && (
        <div class="member-actions" role="group" aria-label={name}>
          {props.children?.(act)}
          {sure ? (
            <>
              <p class="small">Neither of you will find the other's position, and what you share with each other ends. {name} is not told.</p>
              <Button kind="danger" data-testid={`block-sure-${name}`} action={act(props.block)}>Block {name}</Button>
              <Button kind="quiet" action={() => setSure(false)}>No</Button>
            </>
          ) : <Button data-testid={`block-${name}`} action={() => setSure(true)}>Block</Button>}
        </div>
      )}
    </>
  );
}
