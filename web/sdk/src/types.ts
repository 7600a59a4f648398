// The nouns an app sees. They carry the names of api/wire/wire.proto, with
// numbers, Date and {lat, lng} in place of protobuf's types.

/** WGS 84, in degrees. */
export interface Point {
  readonly lat: number;
  readonly lng: number;
}

/** One location report. */
export interface Fix {
  readonly point: Point;
  /** Metres, 68 %; absent when unknown. */
  readonly accuracy?: number;
  /** Metres per second. */
  readonly speed?: number;
  /** Degrees from true north. */
  readonly heading?: number;
  /** 0 to 1. */
  readonly battery?: number;
  /**
   * The H3 cell where the position is told coarsely: its centre is the point, its
   * radius the accuracy. Not for reports.
   */
  readonly cell?: string;
  readonly captured: Date;
}

/** A fix of somebody in a room. */
export interface MemberFix {
  readonly user: string;
  /** "http": it came otherwise than through a session here, or is told coarsely. */
  readonly device: string;
  readonly fix: Fix;
}

/** Degrees; west is greater than east where the box lies over the antimeridian. */
export interface Box {
  readonly south: number;
  readonly west: number;
  readonly north: number;
  readonly east: number;
}

/** Where a device is that is in a watched area. */
export interface Sight {
  readonly user: string;
  /** "" where discoverable people are watched. */
  readonly device: string;
  readonly point: Point;
  readonly accuracy?: number;
  readonly speed?: number;
  readonly heading?: number;
  readonly cell?: string;
  /** To a second, by the server's clock (session.now()), as that of a fix. */
  readonly captured: Date;
}

/** Somebody discoverable who is near. */
export interface Neighbour {
  readonly user: string;
  readonly name: string;
  /** Of a fleet, as its gateways name it; `user` names the fleet, too. */
  readonly subject?: string;
  /** Metres, to what may be known of where they are. */
  readonly distance: number;
  /** Degrees from true north. */
  readonly direction: number;
  readonly fix: Fix;
}

export interface Neighbours {
  /** The nearest first. */
  readonly people: readonly Neighbour[];
  /** There are others within the radius. */
  readonly more: boolean;
  /** Regions that could not be asked: people there may be missing. */
  readonly unreached: readonly string[];
}

export type TransportName = "webtransport" | "websocket";
export type DeviceState = "live" | "suspended" | "left";
export type LeftReason = "bye" | "timed_out" | "moved" | "removed" | "signed_out" | "region_lost";

/** One device of a member: an installation, or a browser tab. */
export interface Device {
  readonly device: string;
  readonly epoch: number;
  readonly state: DeviceState;
  readonly region: string;
  readonly node: string;
  readonly transport?: TransportName;
  /** Since when it is in this state. */
  readonly since: Date;
  readonly reason?: LeftReason;
  /** Its region can't be heard: all of this is as it was then. */
  readonly unknownSince?: Date;
  readonly fix?: Fix;
}

/** A region that can't be heard from where this session is connected. */
export interface Unreached {
  readonly region: string;
  readonly since: Date;
  /** For so long that its people are in the room no more, until it says otherwise. */
  readonly lost: boolean;
}

/** One person in a room: one entry per user, their devices inside. */
export interface Member {
  readonly user: string;
  readonly name: string;
  /** Live if any device is. */
  readonly state: "live" | "suspended";
  /** That can't be told now, since no region that can be heard has a live device: it was so then. */
  readonly unknownSince?: Date;
  /** The devices that are in the room, the one to speak of first. */
  readonly devices: readonly Device[];
  /** The latest fix of any of the devices, or that was posted otherwise. */
  readonly fix?: Fix;
}

/** How many people, not devices: one whose devices are all suspended is suspended. */
export interface Counts {
  readonly live: number;
  readonly suspended: number;
}

/** People of a room by user id, page by page. */
export interface People {
  readonly people: readonly Member[];
  /** There are further ones after the last. */
  readonly more: boolean;
  /** Of the whole room. */
  readonly counts: Counts;
}

/** dwell: inside for as long as the fence asks for. meet, part: two members. */
export type CrossingKind = "enter" | "exit" | "dwell" | "meet" | "part";

/** Somebody entered or left a fence of the group, or two members met or parted. */
export interface Crossing {
  /** Of this crossing alone. */
  readonly id: string;
  readonly kind: CrossingKind;
  /** The fence's id and name; absent for two members. */
  readonly fence?: string;
  readonly name?: string;
  /** User id. */
  readonly user: string;
  /** The second of two members. */
  readonly other?: string;
  /** By when the positions were captured that tell it. */
  readonly at: Date;
  /** Through, between two positions. */
  readonly passed: boolean;
}

/** Something that was changed about the group behind a room: what the kind says is to be read again. */
export interface Update {
  /** Of this change alone. */
  readonly id: string;
  /** Such as "group.joined"; there may be others than this version knows. */
  readonly kind: string;
  /** Ids, as a rule. */
  readonly data: Readonly<Record<string, unknown>>;
  readonly at: Date;
  /** Counts the room's updates, or the user's notices. */
  readonly n: number;
}

/** The same about the user. */
export type Notice = Update;

/** A file that came with a message. */
export interface Attachment {
  readonly id: string;
  readonly name: string;
  /** Media type, by its content. */
  readonly type: string;
  /** Bytes. */
  readonly size: number;
  /** Pixels of an image. */
  readonly width?: number;
  readonly height?: number;
  /** There is a small picture of it. */
  readonly thumbnail: boolean;
}

export interface Reaction {
  readonly emoji: string;
  readonly count: number;
  /** The first 20. */
  readonly users: readonly string[];
}

export interface Message {
  /** Dense per room from 1: the only order of messages. */
  readonly number: number;
  readonly id: string;
  /** User id. */
  readonly sender: string;
  readonly senderName: string;
  readonly clientId: string;
  /** May be empty with attachments. */
  readonly body: string;
  readonly sentAt: Date;
  /** The number of the message that this answers. */
  readonly replyTo?: number;
  /** User ids. */
  readonly mentions?: readonly string[];
  readonly attachments?: readonly Attachment[];
  /** When it was edited last. */
  readonly editedAt?: Date;
  /** For everyone, or by the user for themself: what is left says only that there was one. */
  readonly deleted?: boolean;
  readonly reactions?: readonly Reaction[];
  readonly pinned?: boolean;
  /**
   * Which of the room's revisions made it so; absent: it is as it was sent. Of two
   * states of a message the one with the higher change is the truth.
   */
  readonly change?: number;
}

/** How far somebody has got in a room, on the device that is ahead. Both only grow. */
export interface Seen {
  readonly user: string;
  /** Up to this message one of their devices has all. */
  readonly delivered: number;
  /** Up to this message they have seen all. */
  readonly read: number;
}

/** What is known of one's own message: derived, and it never goes back. */
export type MessageStatus = "sent" | "delivered" | "read";

/** Messages in ascending order of number. */
export interface Page {
  readonly messages: readonly Message[];
  /** There are further ones in the direction that was asked for. */
  readonly more: boolean;
}

/** As far as whoever was asked can tell; one that this version doesn't know is "unknown". */
export type EdgeState = "up" | "draining" | "down" | "unknown";

export interface EdgeNode {
  readonly id: string;
  readonly http: string;
  readonly ws: string;
  readonly wt?: string;
  readonly state?: EdgeState;
}

export interface EdgeRegion extends Point {
  readonly name: string;
  readonly state?: EdgeState;
  /** 1 is full. */
  readonly load?: number;
  readonly nodes: readonly EdgeNode[];
}

/** Where sessions can be opened: the answer of GET /api/v1/edge. */
export interface Edge {
  /** The best first, if the server knows. */
  readonly regions: readonly EdgeRegion[];
  /** How long that holds, in milliseconds; absent: the order means nothing. */
  readonly ttl?: number;
  /** SHA-256 of the nodes' certificate when no public authority signed it. */
  readonly certSha256?: Uint8Array;
}
