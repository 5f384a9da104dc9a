// Authenticate of the Auth service, which switchyard asks an etcd for that wants users. The others pass as bytes.

import { encode, WireReader } from '../wire.ts';

/** What a client shows to get a token. */
export interface AuthenticateRequest {
  readonly name: string;
  readonly password: string;
}

export function encodeAuthenticateRequest(request: AuthenticateRequest): Buffer {
  return encode(request, (writer, { name, password }) => {
    writer.string(1, name);
    writer.string(2, password);
  });
}

/** The token. @throws MalformedMessageError */
export function decodeAuthenticateResponse(bytes: Buffer): string {
  const reader = new WireReader(bytes);
  let token = '';
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 2) token = reader.string();
    else reader.skip();
  }
  return token;
}
