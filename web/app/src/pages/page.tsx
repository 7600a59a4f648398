import type { ComponentChildren } from "preact";
import { account } from "../state.ts";
import { Icon } from "../ui/icons.tsx";
import { Frame } from "./frame.tsx";
import { AccountForms } from "./welcome.tsx";

/** A page of somebody who is signed in, with the way back. */
export function Page({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <Frame>
      <header class="page-head">
        <a class="icon-button" href="/" aria-label="Back to your groups"><Icon name="back" /></a>
        <h1 class="h2">{title}</h1>
      </header>
      {account.value ? children : <AccountForms />}
    </Frame>
  );
}
