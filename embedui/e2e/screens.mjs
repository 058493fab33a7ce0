// Every screen with an address in the development director's world.
import { readFileSync } from 'node:fs';

const shop = '/applications/shop';
const php = shop + '/services/php';
const db = shop + '/services/db';

/** screens by the name that their pictures get. */
export const screens = {
  overview: '/', applications: '/applications', create: '/applications?new', templates: '/applications?new=template', manifest: '/applications?new=manifest',
  application: shop, add: shop + '/add', 'app-history': shop + '/history',
  scale: php, code: php + '/code', compare: php + '/code?compare=code-0c93be..code-8f2c1d', files: php + '/code?files=code-8f2c1d',
  graphs: php + '/graphs', 'graphs-instances': php + '/graphs?since=7d&by=instance', settings: php + '/settings', environment: php + '/environment', sites: php + '/sites',
  instances: php + '/instances', logs: php + '/logs', 'php-actions': php + '/actions', bindings: php + '/bindings', history: php + '/history', script: php + '/script',
  scripts: shop + '/services/importer/actions', volumes: shop + '/services/importer/volumes', failed: '/applications/protein%20folding/services/simulation',
  access: db + '/access', contents: db + '/data', 'db-backups': db + '/backups', 'db-volumes': db + '/volumes', monitor: db + '/monitor', 'db-scale': db, 'db-actions': db + '/actions',
  resources: '/instances', terminal: '/terminal', operations: '/operations', operation: '/operations/:failed', help: '/help', 'help-page': '/help/guide/php', api: '/help/api?route=application.list', timeline: shop + '/timeline', 'app-graphs': shop + '/graphs', 'applications-table': '/applications?view=table', clone: '/applications?new=manifest&from=1', backups: '/backups', account: '/account', 'account-other': '/account/maria', users: '/users', audit: '/audit', nodes: '/nodes', node: '/nodes/pi-1', 'node-lost': '/nodes/pi-4', bin: '/bin', installation: '/settings', profile: '/profile', 'profile-sign-in': '/profile/sign-in', 'profile-sessions': '/profile/sessions', 'profile-tokens': '/profile/tokens', 'profile-keys': '/profile/keys', welcome: '/welcome', missing: '/nowhere', people: '/applications/shop/people',
};

/** forgotten are the paths of src/screens/screens.ts that no screen above shows. */
export function forgotten() {
  const paths = [...readFileSync(new URL('../src/screens/screens.ts', import.meta.url), 'utf8').matchAll(/path: '([^']+)'/g)].map((m) => m[1]);
  const shown = Object.values(screens).map((s) => s.split('?')[0]);
  return paths.filter((p) => !shown.some((s) => new RegExp('^' + p.replaceAll(/\/:\w+\?/g, '(/[^/]+)?').replaceAll(/:\w+/g, '[^/]+') + '$').test(s)));
}
