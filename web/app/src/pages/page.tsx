import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { connected } from "../live.ts";
import { account } from "../state.ts";
import { Icon } from "../ui/icons.tsx";
import { attempt } from "../ui/toast.tsx";
import { Frame } from "./frame.tsx";
import { AccountForms } from "./welcome.tsx";

interface Props {
  title: string;
  /** Where from, and its name; by default the user's groups. */
  back?: readonly [href: string, name: string];
  children: ComponentChildren;
}

/** A page of somebody who is signed in, with the way back. */
export function Page({ title, back = ["/", "Back to your groups"], children }: Props) {
  const signedIn = account.value != null;
  useEffect(() => void (signedIn && attempt(connected)), [signedIn]); // for what changes meanwhile
  return (
    <Frame>
      <header class="page-head">
        <a class="icon-button" href={back[0]} aria-label={back[1]}><Icon name="back" /></a>
        <h1 class="h2">{title}</h1>
      </header>
      {signedIn ? children : <AccountForms />}
    </Frame>
  );
}
