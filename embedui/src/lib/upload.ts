// Uploads of code, with progress and cancel, which fetch cannot do.
import { ApiError, csrf, problemOf, unreachable } from './client';
import type { CodeVersion } from './api';

/** Upload is one upload under way. */
export interface Upload {
  done: Promise<CodeVersion>;
  cancel: () => void;
}

export function upload(path: string, file: Blob, query: Record<string, string>, progress: (sent: number, total: number) => void): Upload {
  const request = new XMLHttpRequest();
  const done = new Promise<CodeVersion>((resolve, reject) => {
    request.upload.onprogress = (e) => progress(e.loaded, e.lengthComputable ? e.total : file.size);
    request.onload = () => {
      if (request.status < 300) resolve(JSON.parse(request.responseText) as CodeVersion);
      else reject(problemOf(request.status, request.responseText, request.getResponseHeader('Retry-After')));
    };
    request.onerror = () => reject(unreachable());
    request.onabort = () => reject(new ApiError({ code: 'cancelled', message: 'The upload was cancelled; nothing was kept.' }));
    request.open('POST', `/api/v1${path}?${new URLSearchParams(query)}`);
    request.setRequestHeader('Content-Type', 'application/octet-stream');
    request.setRequestHeader('Accept', 'application/json, application/problem+json');
    request.setRequestHeader('X-CSRF-Token', csrf());
    request.send(file);
  });
  return { done, cancel: () => request.abort() };
}

/** wantsStrip says whether the director offers to take the leading directory off. */
export function wantsStrip(e: unknown): boolean {
  if (!(e instanceof ApiError)) return false;
  const p = e.problem;
  return p.code === 'invalid' && (/strip/i.test(p.hint ?? '') || (p.fields ?? []).includes('strip'));
}
