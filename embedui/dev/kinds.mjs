// Kinds as the director describes them; for development only.
export const part = (name, title, summary, more = {}) => ({ name, title, summary, default: 1, min: 1, max: 32, fixed: false, ports: [], to: [], ...more });
export const setting = (name, title, type, def, help, more = {}) => ({ name, title, type, default: def, help, restart: false, ...more });

const all = [
  {
    name: 'generic', title: 'Generic', summary: 'Runs any program packed as an archive, steered by up to five scripts: init, notify, run, interrupt, cleanup.',
    parts: [part('master', 'Master', 'The first instance; it stays until the service stops.', { fixed: true, max: 1 }), part('node', 'Node', 'Further instances that run the same scripts.', { default: 0, min: 0 })],
    settings: [],
    actions: [
      { name: 'run', title: 'Run', summary: 'Runs run.sh on every instance.', params: [{ name: 'parameters', help: 'Passed to the script, split as a shell does.', required: false }], reads: false },
      { name: 'interrupt', title: 'Interrupt', summary: 'Runs interrupt.sh, then stops what runs. A second time kills at once.', params: [{ name: 'parameters', help: 'Passed to the script.', required: false }], reads: false },
      { name: 'cleanup', title: 'Clean up', summary: 'Runs cleanup.sh on every instance.', params: [{ name: 'parameters', help: 'Passed to the script.', required: false }], reads: false },
      { name: 'get_script_status', title: 'Script status', summary: 'Says for each instance and script whether it runs, or how it ended.', params: [], reads: true },
    ],
    code: { accepts: true, help: 'An archive with init.sh, notify.sh, run.sh, interrupt.sh and cleanup.sh at its top; each may be missing.' },
    packages: ['bash'], offers: [], secrets: [], volumes: true, backups: false,
  },
  {
    name: 'helloworld', title: 'Hello world', summary: 'The smallest service there is. Every instance says hello.',
    parts: [part('helloworld', 'Hello world', 'Answers with a greeting.')], settings: [],
    actions: [{ name: 'get_helloworld', title: 'Say hello', summary: 'Asks every instance for its greeting.', params: [], reads: true }],
    code: { accepts: false, help: '' }, packages: [],
  },
  {
    name: 'php', title: 'PHP web hosting', summary: 'Serves PHP and static pages with nginx and php-fpm, behind a proxy that spreads the load.',
    parts: [
      part('proxy', 'Proxy', 'Takes requests from the world and passes them on.', { max: 4, ports: [{ number: 80, use: 'HTTP', public: true }], to: ['web', 'backend'] }),
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
    actions: [{ name: 'get_php_config', title: 'PHP configuration', summary: 'The configuration that php-fpm runs with.', params: [], reads: true },
      { name: 'clear_cache', title: 'Clear the opcode cache', summary: 'Makes every backend compile its scripts again.', params: [{ name: 'scope', help: 'What to clear.', required: true, enum: ['opcache', 'realpath', 'all'] }], reads: false }],
    code: { accepts: true, help: 'An archive of the pages, with index.php at its top.' },
    packages: ['nginx-light', 'php-fpm', 'php-xml', 'php-mbstring', 'php-gd', 'php-sqlite3', 'php-curl'], offers: [{ name: 'url', help: 'where the site is reached', secret: false }], secrets: [],
  },
  {
    name: 'mysql', title: 'MySQL', summary: 'Keeps databases in MariaDB, on one node or on several that hold the same data.',
    parts: [
      part('mysql', 'Database node', 'holds all data and answers SQL', { max: 9, volume: 'data', ports: [{ number: 3306, use: 'SQL', public: true }, { number: 4444, use: 'copies for nodes that join', public: false }, { number: 4567, use: 'replication', public: false }] }),
      part('glb', 'Balancer', 'one address for clients; sends them to nodes that are fit', { default: 0, min: 0, max: 3, ports: [{ number: 3306, use: 'SQL', public: true }], to: ['mysql'] }),
    ],
    settings: [
      setting('volume_size', 'Size of volumes', 'size', '4G', 'of each node’s data; it can grow, but not shrink'),
      setting('database', 'Database', 'string', 'app', 'made at the first start and offered to siblings; empty: none'),
      setting('routing', 'Routing', 'string', 'single_writer', 'single_writer: one node takes all', { enum: ['single_writer', 'read_write_split', 'spread'] }),
      setting('backup_every', 'A backup every', 'string', '24h', 'off: only when somebody asks', { enum: ['off', '1h', '6h', '12h', '24h', '168h'] }),
      setting('backup_keep', 'Scheduled backups to keep', 'integer', 7, 'older ones are deleted after a new one', { min: 1, max: 365 }),
      setting('backup_log', 'Keep changes between backups', 'boolean', true, 'so that any moment can be restored'),
      setting('backup_verify', 'Try each backup', 'boolean', false, 'it is restored on trial beside the data'),
    ],
    actions: [
      { name: 'list_databases', title: 'List databases', summary: 'with their tables and size', params: [], reads: true },
      { name: 'create_database', title: 'Create a database', summary: 'empty, with the character set of the settings', params: [{ name: 'name', help: 'up to 64 characters', required: true }], reads: false },
      { name: 'delete_database', title: 'Delete a database', summary: 'with all its tables', params: [{ name: 'name', help: 'of the database', required: true }], reads: false },
      { name: 'list_users', title: 'List users', summary: 'and the databases that they own', params: [], reads: true },
      { name: 'create_user', title: 'Create a user', summary: 'that owns one database, or none', params: [{ name: 'name', help: 'of the account', required: true }, { name: 'database', help: 'that it owns', required: false }, { name: 'password', help: 'empty: a random one, shown once', required: false }], reads: false },
      { name: 'delete_user', title: 'Delete a user', summary: 'open connections stay', params: [{ name: 'name', help: 'of the account', required: true }], reads: false },
      { name: 'set_user_password', title: 'Set a password', summary: 'of a user that you made', params: [{ name: 'name', help: 'of the account', required: true }, { name: 'password', help: 'empty: a random one, shown once', required: false }], reads: false },
      { name: 'set_password', title: 'Set the password', summary: 'of mysqldb', params: [{ name: 'password', help: 'empty: a random one', required: false }], reads: false, secret: 'password' },
      { name: 'connect', title: 'Command to connect', summary: 'with the stock mysql client', params: [], reads: true },
      { name: 'status', title: 'Status', summary: 'of each node', params: [], reads: true },
      { name: 'get_ca', title: 'Certificate of the service', summary: 'that clients trust, as PEM', params: [], reads: true },
      { name: 'load_dump', title: 'Load a dump', summary: 'runs the statements of a file', params: [{ name: 'database', help: 'where the dump names none', required: false }], reads: false, takes: 'an SQL dump, perhaps packed with gzip or zstd' },
      { name: 'dump', title: 'Download a dump', summary: 'of one database or of all, of one moment', params: [{ name: 'database', help: 'empty: all', required: false }], reads: true, gives: 'dump.sql' },
    ],
    code: { accepts: false, help: '' }, packages: ['mariadb-server', 'galera-4', 'haproxy'], backups: true, volumes: false,
    offers: [
      { name: 'host', help: 'address of a balancer, or of the node that takes writes', secret: false }, { name: 'port', help: 'port of SQL', secret: false }, { name: 'user', help: 'account that owns all databases', secret: false },
      { name: 'password', help: 'its password', secret: true }, { name: 'database', help: 'database of the setting database', secret: false }, { name: 'url', help: 'all of it as mysql://user:password@host:port/database', secret: true },
    ],
    secrets: [{ name: 'password', title: 'Password of user mysqldb', help: 'of the account that owns all databases', own: true, shown: false }],
  },
];

export const kinds = all.map((k) => ({ packages: [], offers: [], secrets: [], volumes: false, backups: false, ...k }));
