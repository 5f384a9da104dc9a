// An unmodified kube-apiserver and kube-controller-manager on given etcd endpoints, with stock flags. No kubelet and
// no scheduler: objects are stored, watched, garbage collected and finalized, pods never run.

import { spawn } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { binary } from '../servers/binaries.ts';
import { guardProcess, releaseProcess, tempFolder } from '../servers/guard.ts';
import { ServerProcess } from '../servers/process.ts';
import { freePort } from '../servers/wait.ts';
import { openApi } from './api.ts';
import type { Api } from './api.ts';
import { createCredentials, writeKubeconfig } from './credentials.ts';
import type { Credentials } from './credentials.ts';

/** The first start fills an empty store with roles, priority levels and namespaces. */
const startMsMax = 180_000;

export interface ControlPlaneOptions {
  /** `http://127.0.0.1:PORT` of switchyard gateways or etcd members. */
  readonly etcdServers: readonly string[];
  /** Start kube-controller-manager too (default true). */
  readonly controllerManager?: boolean;
  /** Further flags of kube-apiserver. */
  readonly args?: readonly string[];
}

/** A component that a test may kill and start again on the same port. */
export interface Component {
  readonly pid: number;
  readonly running: boolean;
  kill(signal?: NodeJS.Signals): Promise<void>;
  start(): Promise<void>;
  logs(): string;
}

export interface KubectlResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number;
}

/** A kubectl that does not end by itself, as `get --watch`. */
export interface KubectlStream {
  /** What it has printed so far. */
  text(): string;
  stop(): Promise<void>;
}

/** A running control plane. */
export interface ControlPlane {
  /** Path of the administrator's kubeconfig. */
  readonly kubeconfig: string;
  readonly url: string;
  /** Bearer token of the administrator (group system:masters). */
  readonly token: string;
  readonly caFile: string;
  readonly api: Api;
  readonly apiserver: Component;
  readonly controllerManager: Component | undefined;
  /** Starts one more kube-controller-manager; it stands by while another one holds the lease. */
  addControllerManager(): Promise<Component>;
  /** Runs kubectl as the administrator; any exit code is an answer. */
  kubectl(args: readonly string[], options?: { readonly input?: string }): Promise<KubectlResult>;
  /** Runs kubectl and answers with its output. @throws with what it printed when it fails */
  run(args: readonly string[], options?: { readonly input?: string }): Promise<string>;
  /** Starts kubectl and leaves it running. */
  stream(args: readonly string[]): KubectlStream;
  dispose(): Promise<void>;
}

/** Starts a control plane and waits until it is ready. */
export async function startControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const folder = tempFolder('kubernetes');
  const credentials = createCredentials(folder);
  const started: ServerProcess[] = [];
  const dispose = async () => {
    for (const server of started.toReversed()) await server.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const port = await freePort();
    const url = `https://127.0.0.1:${port}`;
    const apiserver = await createApiserver({ folder, port, credentials, ...options });
    started.push(apiserver);
    await apiserver.start();
    const caFile = join(folder, 'certificates', 'apiserver.crt');
    const kubeconfig = join(folder, 'admin.kubeconfig');
    const admin = { url, caFile, token: credentials.adminToken };
    writeKubeconfig(kubeconfig, admin);
    const addControllerManager = async () => {
      const ordinal = started.length;
      const manager = await createControllerManager({ folder, url, caFile, credentials, ordinal });
      started.push(manager);
      await manager.start();
      return manager;
    };
    const controllerManager = options.controllerManager === false ? undefined : await addControllerManager();
    const api = openApi(admin);
    return {
      ...admin,
      kubeconfig,
      api,
      apiserver,
      controllerManager,
      addControllerManager,
      ...(await createKubectl(kubeconfig, folder)),
      dispose: async () => {
        api.close();
        await dispose();
      },
    };
  } catch (error) {
    await dispose();
    throw error;
  }
}

async function createApiserver(
  options: ControlPlaneOptions & { folder: string; port: number; credentials: Credentials },
): Promise<ServerProcess> {
  const { folder, port, credentials } = options;
  return new ServerProcess({
    name: 'kube-apiserver',
    command: await binary('kube-apiserver'),
    args: [
      `--etcd-servers=${options.etcdServers.join(',')}`,
      `--secure-port=${port}`,
      '--bind-address=127.0.0.1',
      '--advertise-address=127.0.0.1',
      `--cert-dir=${join(folder, 'certificates')}`,
      `--token-auth-file=${credentials.tokenFile}`,
      '--authorization-mode=RBAC',
      '--service-cluster-ip-range=10.0.0.0/24',
      '--service-account-issuer=https://kubernetes.default.svc',
      `--service-account-signing-key-file=${credentials.signingKeyFile}`,
      `--service-account-key-file=${credentials.verificationKeyFile}`,
      ...(options.args ?? []),
    ],
    folder,
    cwd: folder,
    startMsMax,
    ready: () => healthy(`https://127.0.0.1:${port}/readyz`, credentials.adminToken),
  });
}

async function createControllerManager(options: {
  folder: string;
  url: string;
  caFile: string;
  credentials: Credentials;
  ordinal: number;
}): Promise<ServerProcess> {
  const { folder, url, caFile, credentials, ordinal } = options;
  const kubeconfig = join(folder, 'controller-manager.kubeconfig');
  writeKubeconfig(kubeconfig, { url, caFile, token: credentials.managerToken });
  const port = await freePort();
  return new ServerProcess({
    name: `kube-controller-manager-${ordinal}`,
    command: await binary('kube-controller-manager'),
    args: [
      `--kubeconfig=${kubeconfig}`,
      `--authentication-kubeconfig=${kubeconfig}`,
      `--authorization-kubeconfig=${kubeconfig}`,
      '--bind-address=127.0.0.1',
      `--secure-port=${port}`,
      `--cert-dir=${join(folder, `manager-certificates-${ordinal}`)}`,
      '--controllers=*',
      '--leader-elect=true',
      // A little shorter than the defaults: a test waits for the lease of a killed leader to run out.
      '--leader-elect-lease-duration=10s',
      '--leader-elect-renew-deadline=8s',
      '--use-service-account-credentials=true',
      `--service-account-private-key-file=${credentials.signingKeyFile}`,
      `--root-ca-file=${caFile}`,
      // Finalization is driven by events; this only shortens the wait after one was missed.
      '--namespace-sync-period=10s',
    ],
    folder,
    cwd: folder,
    startMsMax,
    ready: () => healthy(`https://127.0.0.1:${port}/healthz`, credentials.managerToken),
  });
}

/** True when the answer is 200. The certificate does not exist before the first start, so it is not checked here. */
function healthy(url: string, token: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}` };
    request(url, { agent: false, rejectUnauthorized: false, headers, timeout: 5_000 })
      .once('response', (response) => {
        response.resume();
        resolve(response.statusCode === 200);
      })
      .once('timeout', () => reject(new Error(`Expected an answer from ${url} within 5 s, got none`)))
      .once('error', reject)
      .end();
  });
}

async function createKubectl(
  kubeconfig: string,
  folder: string,
): Promise<Pick<ControlPlane, 'kubectl' | 'run' | 'stream'>> {
  const command = await binary('kubectl');
  const env = { ...process.env, KUBECONFIG: kubeconfig, KUBECACHEDIR: join(folder, 'kubectl') };
  const start = (args: readonly string[], input: string) => {
    if (!existsSync(kubeconfig))
      throw new Error(`Expected a running control plane, got one that was disposed of`);
    const child = spawn(command, args, { env, stdio: ['pipe', 'pipe', 'pipe'] });
    // kubectl may end without reading all of its input.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
    const exit = new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code) => resolve(code ?? 1));
    });
    return { child, exit };
  };
  const kubectl: ControlPlane['kubectl'] = async (args, { input = '' } = {}) => {
    const { child, exit } = start(args, input);
    const [stdout, stderr, code] = await Promise.all([buffer(child.stdout), buffer(child.stderr), exit]);
    return { stdout: stdout.toString(), stderr: stderr.toString(), code };
  };
  return {
    kubectl,
    run: async (args, options) => {
      const { code, stdout, stderr } = await kubectl(args, options);
      if (code !== 0)
        throw new Error(`Expected kubectl ${args.join(' ')} to succeed, got ${code}: ${stderr}`);
      return stdout;
    },
    stream: (args) => {
      const { child, exit } = start(args, '');
      let text = '';
      child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
      child.stderr.resume();
      if (child.pid !== undefined) guardProcess(child.pid);
      const ended = exit.finally(() => child.pid !== undefined && releaseProcess(child.pid));
      return {
        text: () => text,
        stop: async () => {
          child.kill();
          await ended;
        },
      };
    },
  };
}
