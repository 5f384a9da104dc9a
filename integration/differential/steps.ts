// What a history consists of: plain data that JSON can hold, so that a history that failed is printed and pasted as a fixed
// case. Everything that differs from server to server is written relative to the history:
//   keys and values  strings of one character a byte; the value `<1048576>` stands for that many bytes
//   revisions        '0', '-7': as they are; '+3': three after the start; 'now-1', 'now', 'now+2': after the latest one seen
//   leases           'L1' to 'L4': ids of the client's choice; 'S1': the first one that the server chose, and so on
// What a step does not mention is left out of the request.

export type Bytes = string;
export type Revision = string;
export type Lease = string;

export interface RangeStep {
  readonly do: 'range';
  readonly key: Bytes;
  readonly end?: Bytes;
  readonly revision?: Revision;
  readonly limit?: number;
  /** 0 none, 1 ascend, 2 descend. */
  readonly order?: number;
  /** 0 key, 1 version, 2 create, 3 mod, 4 value. */
  readonly target?: number;
  readonly serializable?: boolean;
  readonly keysOnly?: boolean;
  readonly countOnly?: boolean;
  readonly minMod?: Revision;
  readonly maxMod?: Revision;
  readonly minCreate?: Revision;
  readonly maxCreate?: Revision;
}

export interface PutStep {
  readonly do: 'put';
  readonly key: Bytes;
  readonly value?: Bytes;
  readonly lease?: Lease;
  readonly prevKv?: boolean;
  readonly ignoreValue?: boolean;
  readonly ignoreLease?: boolean;
}

export interface DeleteStep {
  readonly do: 'delete';
  readonly key: Bytes;
  readonly end?: Bytes;
  readonly prevKv?: boolean;
}

export interface Condition {
  readonly key: Bytes;
  readonly end?: Bytes;
  /** 0 version, 1 create, 2 mod, 3 value, 4 lease. */
  readonly target?: number;
  /** 0 equal, 1 greater, 2 less, 3 not equal. */
  readonly result?: number;
  /** The member of the oneof that is set, whether it fits the target or not. */
  readonly to?:
    | { readonly version: number }
    | { readonly create: Revision }
    | { readonly mod: Revision }
    | { readonly value: Bytes }
    | { readonly lease: Lease };
}

export interface TxnStep {
  readonly do: 'txn';
  readonly if?: readonly Condition[];
  readonly success?: readonly Op[];
  readonly failure?: readonly Op[];
}

/** An op of no kind. */
export interface NothingStep {
  readonly do: 'nothing';
}

export type Op = RangeStep | PutStep | DeleteStep | TxnStep | NothingStep;

/** One txn that puts `m/000`, `m/001` and so on. */
export interface FillStep {
  readonly do: 'fill';
  readonly count: number;
  readonly value: Bytes;
}

export interface WatchStep {
  readonly do: 'watch';
  /** Watches of one stream share it. Those that start in the future have one of their own (see tape.ts). */
  readonly stream: number;
  readonly key: Bytes;
  readonly end?: Bytes;
  readonly start?: Revision;
  readonly prevKv?: boolean;
  readonly progressNotify?: boolean;
  readonly fragment?: boolean;
  /** 0 no puts, 1 no deletes. */
  readonly filters?: readonly number[];
  readonly id?: number;
}

export type Step =
  | Exclude<Op, NothingStep>
  | FillStep
  | { readonly do: 'compact'; readonly revision: Revision; readonly physical?: boolean }
  /** `id` '0': the server chooses. */
  | { readonly do: 'grant'; readonly id: Lease; readonly ttl: number }
  | { readonly do: 'revoke' | 'keepAlive'; readonly id: Lease }
  | { readonly do: 'timeToLive'; readonly id: Lease; readonly keys?: boolean }
  | { readonly do: 'leases' }
  | WatchStep
  | { readonly do: 'cancel'; readonly stream: number; readonly id: number }
  | { readonly do: 'progress'; readonly stream: number };

export type History = readonly Step[];
