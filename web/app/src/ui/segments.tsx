import { useId } from "preact/hooks";

/** One of a few choices, all in sight. `stacked`: the choices below their label, over the full width. */
export function Segments<T extends string>(props: { label: string; value: T; options: readonly (readonly [T, string])[]; pick: (v: T) => void; stacked?: boolean; testid?: string }) {
  const id = useId();
  return (
    <div class={props.stacked ? "field" : "setting"}>
      <span id={id} class={props.stacked ? "field-label" : undefined}>{props.label}</span>
      <div class="segments" role="radiogroup" aria-labelledby={id} data-testid={props.testid}>
        {props.options.map(([value, label]) => (
          <button key={value} type="button" role="radio" data-value={value} aria-checked={props.value === value} onClick={() => props.pick(value)}>{label}</button>
        ))}
      </div>
    </div>
  );
}
