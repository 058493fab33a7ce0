-- What an nginx of Nutshell is told while it runs: which version it shows,
-- where versions lie, whom it trusts and which nodes it may ask. The agent
-- sends it as text; workers share it, so that every request that begins after
-- the answer goes by it and nothing has to be reloaded. Requests under way are
-- counted by version and by node, so that the agent knows when one is free.
local balancer = require "ngx.balancer"
local M = {}
local dict = ngx.shared.nutshell

local token          -- of the agent; read by the master, which may
local pid = 0
local turn           -- of what this worker knows; grows with each change
local now            -- what the text says, see build
local keys = {}      -- of counters, by what they count
local busy = {}      -- requests of this worker at each node

local function words(line)
  local list = {}
  for word in line:gmatch("%S+") do list[#list + 1] = ngx.unescape_uri(word) end
  return list
end

local function build(text)
  local s = { roots = {}, denied = {}, here = {}, trust = {}, nodes = { webs = {}, backends = {} }, by_id = {} }
  for line in text:gmatch("[^\n]+") do
    local w = words(line)
    local what = w[1]
    if what == "root" then s.roots[w[2]] = assert(w[3])
    elseif what == "here" then s.here[w[2]] = assert(w[3])
    elseif what == "denied" then
      local dirs = s.denied[w[2]] or {}
      s.denied[w[2]] = dirs
      local first = assert(w[3]):match("^[^/]+")
      dirs[first] = dirs[first] or {}
      table.insert(dirs[first], "/" .. w[3])
    elseif what == "trust" then s.trust[assert(w[2])] = true
    elseif what == "node" then
      local n = { id = w[3], host = w[4], port = assert(tonumber(w[5])), weight = assert(tonumber(w[6])), current = 0, failed = 0 }
      n.key = w[2] .. " " .. n.id
      table.insert(assert(s.nodes[w[2]]), n)
      s.by_id[n.key] = n
    elseif what then s[what] = w[2] or "" end
  end
  assert(s.serial, "no serial")
  if s.version then
    s.root = assert(s.roots[s.version], "the version has no root")
    s.target = s.version
    -- Pages made here count as requests at this node too.
    if s.pages ~= "remote" then s.target = s.version .. " " .. (s.self or "") end
  end
  return s
end

local function refresh()
  turn = dict:get("turn")
  local text = dict:get("state")
  if not text then now = build("serial none") return end
  local s = build(text)
  for key in (dict:get("down") or ""):gmatch("%S+") do
    local n = s.by_id[(key:gsub(":", " ", 1))]
    if n then n.down = true end
  end
  -- A request that began before a tier became empty still asks its last nodes.
  for tier, nodes in pairs(s.nodes) do
    if #nodes == 0 and now then s.nodes[tier] = now.nodes[tier] end
  end
  now = s
  for what, key in pairs(keys) do -- what is not used any more; no other process counts by these keys
    if dict:get(key) == 0 then
      dict:delete(key)
      keys[what] = nil
    end
  end
end

local function current()
  if dict:get("turn") ~= turn then refresh() end
  return now
end

local function count(what, n)
  local key = keys[what]
  if not key then
    key = "n " .. pid .. " " .. what
    keys[what] = key
  end
  dict:incr(key, n, 0)
end

-- denied reports whether a path lies in a directory that visitors must not see.
local function denied(dirs, path)
  local first = path:match("^/([^/]+)")
  local list = first and dirs[first]
  if not list then return false end
  for _, d in ipairs(list) do
    if path == d or path:sub(1, #d + 1) == d .. "/" then return true end
  end
  return false
end

-- load is for the master, when it starts or reads its configuration again.
function M.load(state_file, token_file)
  local f = io.open(token_file)
  if f then
    token = f:read("*l")
    f:close()
  end
  if dict:get("state") then return end
  f = io.open(state_file)
  if not f then return end
  local text = f:read("*a")
  f:close()
  if pcall(build, text) then
    dict:set("state", text)
    dict:incr("turn", 1, 0)
  end
end

-- worker is for each worker when it starts.
function M.worker()
  pid = ngx.worker.pid()
  local prefix = "n " .. pid .. " "
  for _, key in ipairs(dict:get_keys(0)) do -- of a dead one that had the same number
    if key:sub(1, #prefix) == prefix then dict:delete(key) end
  end
end

-- enter is for each request of a visitor; it returns the document root, or
-- nothing where there is nothing to see.
function M.enter()
  local v = ngx.var
  if ngx.req.is_internal() then return v.docroot end -- a request keeps its version
  local s = current()
  if not s.version then return "" end
  count(s.target, 1)
  v.nutshell = s.target
  if s.pages or s.webs or s.here[s.version] then
    v.nutshell_version = s.version
    v.nutshell_pages = s.pages
    v.nutshell_webs = s.webs
  end
  local dirs = s.denied[s.version]
  if dirs and denied(dirs, v.uri) then return "" end
  return s.root
end

-- tier is for each request of a proxy to a node behind it; it returns the
-- document root of the version that the proxy names, or why not: "-" nobody
-- but proxies, "=" must not be seen, "" not known.
function M.tier()
  local v = ngx.var
  if ngx.req.is_internal() then return v.docroot end
  local s = current()
  if not s.trust[v.realip_remote_addr] then return "-" end
  local version = v.http_x_nutshell_version or ""
  local dirs = s.denied[version]
  if dirs and denied(dirs, v.uri) then return "=" end
  v.nutshell_version = version
  return s.roots[version] or ""
end

-- leave is for the end of each request that has entered.
function M.leave()
  local v = ngx.var
  local target = v.nutshell
  if not target or target == "" then return end
  count(target, -1)
  local node = v.nutshell_node
  if node and node ~= "" then
    count(node, -1)
    busy[node] = (busy[node] or 1) - 1
  end
end

-- nobody answers here: what follows is a 502, where ngx.exit would make a 500.
local nobody = "unix:/nonexistent"

-- pick takes the next node in turn by weight, but not one that is far busier
-- than another. Nodes that do not answer come last, after those tried before.
local function pick(nodes, tried)
  local time = ngx.now()
  for level = 1, 3 do
    local best, least, total, low = nil, nil, 0, 0
    for i = 1, #nodes do
      local n = nodes[i]
      if level == 3 or not n.down and n.failed <= time and (level == 2 or not tried or not tried:find(" " .. n.id .. " ", 1, true)) then
        n.current = n.current + n.weight
        total = total + n.weight
        if not best or n.current > best.current then best = n end
        local load = (busy[n.key] or 0) / n.weight
        if not least or load < low then least, low = n, load end
      end
    end
    if best then
      if (busy[best.key] or 0) / best.weight > 2 * low + 8 / best.weight then best = least end
      best.current = best.current - total
      return best
    end
  end
end

-- route is the node to which a visitor's session is bound, by the name of the
-- node behind the last dot of its number, or nil.
local function route(s, tier, v)
  local session = v["cookie_" .. s.sticky] or v.request_uri:lower():match(";" .. s.sticky:lower() .. "=([^;/?]+)")
  local id = session and session:match("%.([^.]+)$")
  local n = id and s.by_id[tier .. " " .. id]
  if n and not n.down and n.failed <= ngx.now() then return n end
end

-- balance chooses the node for one try.
function M.balance(tier)
  local s, v = current(), ngx.var
  local nodes = s.nodes[tier]
  local last, tried = v.nutshell_node, nil
  if last == "" then last = nil end
  if last then
    count(last, -1)
    busy[last] = (busy[last] or 1) - 1
  end
  if balancer.get_last_failure() then
    local id = last:match("%S+$")
    tried = (v.nutshell_tried or "") .. " " .. id .. " "
    v.nutshell_tried = tried
    if #nodes > 1 and s.by_id[last] then s.by_id[last].failed = ngx.now() + 1 end
  elseif #nodes > 1 then
    balancer.set_more_tries(math.min(#nodes - 1, 2))
  end
  local n
  if s.sticky and tier == "backends" and not tried then n = route(s, tier, v) end
  n = n or pick(nodes, tried)
  if not n then
    v.nutshell_node = ""
    return balancer.set_current_peer(nobody)
  end
  v.nutshell_node = n.key
  busy[n.key] = (busy[n.key] or 0) + 1
  count(n.key, 1)
  if v.http_upgrade then balancer.set_timeouts(2, 60, 3600) end -- not the time a page may take
  local ok, err = balancer.set_current_peer(n.host, n.port)
  if not ok then ngx.log(ngx.ERR, "node ", n.id, ": ", err) end
end

-- here chooses what makes the pages of the request's version on this instance,
-- or a socket of it whose name ends otherwise.
function M.here(ending)
  local v = ngx.var
  local socket = current().here[v.nutshell_version or ""]
  if not socket then return balancer.set_current_peer(nobody) end
  if ending then socket = socket:gsub("%.sock$", ending .. ".sock") end
  if v.http_upgrade then balancer.set_timeouts(5, 60, 3600) end
  balancer.set_current_peer("unix:" .. socket)
end

-- again is for a request that what makes pages did not answer because it is
-- just being started again. It waits for it and begins anew, which is safe
-- where nothing was sent. What only reads and was broken off is tried once
-- more, as nginx does where it knows several nodes.
local function answers(socket, nodes)
  local function try(host, port)
    local s = ngx.socket.tcp()
    s:settimeout(500)
    local ok
    if port then ok = s:connect(host, port) else ok = s:connect(host) end
    s:close()
    return ok
  end
  if socket then return try(socket) end
  for _, n in ipairs(nodes) do
    if try(n.host, n.port) then return true end
  end
  return false
end

function M.again(failure, socket)
  local v = ngx.var
  local times = tonumber(v.nutshell_again) or 0
  local sent = (v.upstream_connect_time or ""):find("%d")
  local reads = v.request_method == "GET" or v.request_method == "HEAD"
  if times == 3 or sent and (times > 0 or not reads or failure ~= 502) then return ngx.exit(failure) end
  v.nutshell_again = times + 1
  local function there()
    local s = current()
    if s.pages == "remote" then return answers(nil, s.nodes.backends) end
    local path = s.here[v.nutshell_version or ""]
    return answers(path and "unix:" .. path or socket, {})
  end
  local deadline = ngx.now() + 5
  while not there() do
    if ngx.now() > deadline then return ngx.exit(failure) end
    ngx.sleep(0.05)
  end
  v.nutshell_pages = now.pages or "" -- by what holds now, but its version
  v.nutshell_webs = now.webs or ""
  v.nutshell_from = ""
  return ngx.exec(v.uri, v.args)
end

local function accept(text)
  local ok, err = pcall(build, text)
  if not ok then return err end
  local stored, why = dict:safe_set("state", text)
  if not stored then return why end
end

-- status answers the agent: what runs, and what is under way; POST changes it.
function M.status(revision)
  ngx.header["Content-Type"] = "text/plain"
  if ngx.req.get_method() == "POST" then
    if not token or ngx.var.http_x_nutshell_token ~= token then return ngx.exit(403) end
    ngx.req.read_body()
    local body = ngx.req.get_body_data() or ""
    local err
    if ngx.var.uri == "/down" then
      local ok, why = dict:safe_set("down", body)
      if not ok then err = why end
    else
      err = accept(body)
    end
    if err then
      ngx.status = 400
      return ngx.say(err)
    end
    dict:incr("turn", 1, 0)
  end
  local s = current()
  ngx.say("revision ", revision)
  ngx.say("serial ", s.serial)
  ngx.say("version ", s.version or "")
  ngx.say("down ", dict:get("down") or "")
  for _, key in ipairs(dict:get_keys(0)) do
    if key:sub(1, 2) == "n " then ngx.say(key, " ", dict:get(key)) end
  end
end

return M
