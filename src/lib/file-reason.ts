// Why a file could not be read, in the words of someone who typed its name. Used wherever files are named in flags or topology.

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'no such file',
  ENOTDIR: 'no such file',
  EISDIR: 'a directory',
  EACCES: 'no permission',
  EPERM: 'no permission',
};

/** `no such file`, `a directory`, `no permission`, else the system's code. */
export function fileReason(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code ?? String(error);
  return reasons[code] ?? code;
}
