// Kinds as the director describes them; for development only.
const part = (name, title, summary, more = {}) => ({ name, title, summary, default: 1, min: 1, max: 32, fixed: false, ports: [], ...more });
const setting = (name, title, type, def, help, more = {}) => ({ name, title, type, default: def, help, restart: false, ...more });

export const kinds = [
  {
    name: 'generic', title: 'Generic', summary: 'Runs any program packed as an archive, steered by up to five scripts: init, notify, run, interrupt, cleanup.',
    parts: [part('master', 'Master', 'The first instance; it stays until the service stops.', { fixed: true, max: 1 }), part('node', 'Node', 'Further instances that run the same scripts.', { default: 0, min: 0 })],
    settings: [],
    actions: [
      { name: 'run', title: 'Run', summary: 'Runs run.sh on every instance.', params: [{ name: 'parameters', help: 'Passed to the script, split as a shell does.', required: false }], reads: false, long: false },
      { name: 'interrupt', title: 'Interrupt', summary: 'Runs interrupt.sh, then stops what runs. A second time kills at once.', params: [{ name: 'parameters', help: 'Passed to the script.', required: false }], reads: false, long: false },
      { name: 'cleanup', title: 'Clean up', summary: 'Runs cleanup.sh on every instance.', params: [{ name: 'parameters', help: 'Passed to the script.', required: false }], reads: false, long: false },
      { name: 'get_script_status', title: 'Script status', summary: 'Says for each instance and script whether it runs, or how it ended.', params: [], reads: true, long: false },
    ],
    code: { accepts: true, help: 'An archive with init.sh, notify.sh, run.sh, interrupt.sh and cleanup.sh at its top; each may be missing.' },
    packages: ['bash'],
  },
  {
    name: 'helloworld', title: 'Hello world', summary: 'The smallest service there is. Every instance says hello.',
    parts: [part('helloworld', 'Hello world', 'Answers with a greeting.')], settings: [],
    actions: [{ name: 'get_helloworld', title: 'Say hello', summary: 'Asks every instance for its greeting.', params: [], reads: true, long: false }],
    code: { accepts: false, help: '' }, packages: [],
  },
  {
    name: 'php', title: 'PHP web hosting', summary: 'Serves PHP and static pages with nginx and php-fpm, behind a proxy that spreads the load.',
    parts: [
      part('proxy', 'Proxy', 'Takes requests from the world and passes them on.', { max: 4, ports: [{ number: 80, use: 'HTTP', public: true }] }),
      part('web', 'Web', 'Serves static files.', { ports: [{ number: 8080, use: 'HTTP', public: false }] }),
      part('backend', 'Backend', 'Runs PHP.', { max: 64, ports: [{ number: 9000, use: 'FastCGI', public: false }] }),
    ],
    settings: [
      setting('max_execution_time', 'Longest run of a script', 'integer', 30, 'A script that runs longer is ended.', { min: 1, max: 300, unit: 'seconds', restart: true }),
      setting('memory_limit', 'Memory of a script', 'size', '128M', 'More than this ends the script, and only the script.', { unit: 'bytes', restart: true }),
      setting('upload_max_filesize', 'Largest upload', 'size', '32M', 'Of one file that a visitor sends.', { restart: true }),
      setting('post_max_size', 'Largest form', 'size', '32M', 'Of a whole request; at least the largest upload.', { restart: true }),
      setting('display_errors', 'Show errors in pages', 'boolean', false, 'For debugging only: errors may tell visitors secrets.'),
      setting('error_reporting', 'Errors to report', 'string', 'production', 'Which errors go to the log.', { enum: ['production', 'development', 'none'] }),
      setting('disable_functions', 'Functions that are switched off', 'list', [], 'Names of PHP functions that scripts may not call, one per line.', { restart: true }),
      setting('health_path', 'Health page', 'string', '/', 'Asked before a new version gets requests; an answer of 500 or above keeps the old version.', { pattern: '^/' }),
      setting('nginx_snippet', 'More lines for nginx', 'text', 'location /old/ {\n    return 301 /;\n}\n', 'Placed into the server block; nginx checks them before they are used.'),
      setting('php_ini', 'More php.ini lines', 'text', '', 'Appended as they are.', { restart: true }),
    ],
    actions: [{ name: 'get_php_config', title: 'PHP configuration', summary: 'The configuration that php-fpm runs with.', params: [], reads: true, long: false },
      { name: 'clear_cache', title: 'Clear the opcode cache', summary: 'Makes every backend compile its scripts again.', params: [{ name: 'scope', help: 'What to clear.', required: true, enum: ['opcache', 'realpath', 'all'] }], reads: false, long: false }],
    code: { accepts: true, help: 'An archive of the pages, with index.php at its top.' },
    packages: ['nginx-light', 'php-fpm', 'php-xml', 'php-mbstring', 'php-gd', 'php-sqlite3', 'php-curl'],
  },
];
