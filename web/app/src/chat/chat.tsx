import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { Icon } from "../ui/icons.tsx";
import { attempt } from "../ui/toast.tsx";
import { Composer } from "./composer.tsx";
import { Look } from "./found.tsx";
import { Log } from "./log.tsx";
import { seek, talk } from "./talk.ts";

/** The open conversation: what was said, and where one writes. `tools`: what else there is to do, beside searching and pins. */
export function Chat({ tools }: { tools?: ComponentChildren }) {
  const [look, setLook] = useState<"search" | "pins">();
  const t = talk.value;
  const toggle = (what: "search" | "pins") => setLook(look === what ? undefined : what);
  return (
    <div class="chat">
      <div class="chat-tools" role="group" aria-label="Conversation">
        <button type="button" class="icon-button" aria-label="Search in this conversation" aria-pressed={look === "search"} data-testid="look-search" onClick={() => toggle("search")}><Icon name="search" /></button>
        <button type="button" class="icon-button" aria-label="Pinned messages" aria-pressed={look === "pins"} data-testid="look-pins" onClick={() => toggle("pins")}><Icon name="tack" /></button>
        {tools}
      </div>
      {look && t && <Look room={t.room} what={look} close={() => setLook(undefined)} seek={(n) => void attempt(() => seek(n))} />}
      <Log />
      <Composer />
    </div>
  );
}
