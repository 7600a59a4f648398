import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { connected } from "../live.ts";
import { account } from "../state.ts";
import { Icon } from "../ui/icons.tsx";
import { attempt } from "../ui/toast.tsx";
import { Frame } from "./frame.tsx";
import { AccountForms } from "./welcome.tsx";

/** A page of somebody who is signed in, with the way back. */
export function Page({ title, children }: { title: string; children: ComponentChildren }) {
  const signedIn = account.value != null;
  useEffect(() => void (signedIn && attempt(connected)), [signedIn]); // for what changes meanwhile
  return (
    <Frame>
      <header class="page-head">
        <a class="icon-button" href="/" aria-label="Back to your groups"><Icon name="back" /></a>
        <h1 class="h2">{title}</h1>
      </header>
      {signedIn ? children : <AccountForms />}
    </Frame>
  );
}
