#!lua name=arcgate_v1
--
-- The alarm queue of one centre, for Redis >= 7.0 and Valkey. Each verb is atomic. A console in any language calls the same verbs:
--
--     FCALL <verb> 1 {arcgate:<centre>} <argument> ...
--
-- KEYS[1] is the prefix p = {arcgate:<centre>}; the braces make it the hash tag of every key of the centre, so a Cluster holds a centre on one shard.
--
--   p:cursors       hash    journal id -> the position applied; register:<register id> -> how far that register has the acts done here
--   p:heads         hash    as p:cursors -> "<position> <digest>" of the entry at which the cursor last stood, so that a rewritten journal is seen
--   p:site:<site>   hash    version (0 = never seen), state (opaque text), at:<journal> = the last position applied to this site;
--                           open: ids of its open alarms, oldest first, with blanks between
--   p:alarm:<id>    hash    site name account priority category label instruction steps(JSON) state opened_at events repeats returned;
--                           life: 1 where it holds a life-safety event; ghost: 1 where no site names the account;
--                           owner fence lease_until while claimed; closed_at outcome note once closed (owner and fence stay);
--                           act: the id, in p:acts, of the last act applied to it
--   p:events:<id>   list    the alarm's events (JSON), in the order of joining, never rewritten
--   p:seen:<id>     hash    event id -> how many times it was received; of an event of a closed alarm, repeated in this one: the id it has here
--   p:waiting       zset    alarm id, score = priority * 1e13 + opened_at: most urgent first, then oldest
--   p:claimed       zset    alarm id, score = the end of its lease
--   p:opened:<journal>  zset  the open alarms that an entry of this journal opened, score = that entry's position, or that of
--                           an earlier one without which its events would have been decided otherwise; an alarm's id is
--                           <journal>-<position>-<n>, and the journal's own id may hold dashes
--   p:closing       set     while a journal is awaited: the alarms that will be closed again, which nobody shall claim meanwhile
--   p:fence         string  the last fence given out
--   p:ready         string  the run_id of the server at which dispatch has begun to look for what was lost; no other one has been looked at
--   p:awaited       zset    the journals that may still be putting back what was lost, score = until when they are waited for
--   p:ghosts        zset    ghost alarms opened in the last minute, score = opened_at
--   p:acts          stream  what was done, about the last 100,000: act = claim | release | close | lease_expired; alarm site operator fence
--                           events priority category life opened_at; needed: the alarm's score in p:opened; cursors (JSON: journal id -> position
--                           applied to the site) at that moment; for close also outcome and note. Its newest id never
--                           goes back, not even where the clock does: a replay carries it on
--
-- Times are ms since 1970. The one clock is TIME, here; no console's clock is believed.
--
-- An error reply begins with its code:
--   BADARG    an argument is missing or out of bounds
--   NOALARM   no such alarm; a closed one is kept for a day
--   FENCED    the fence is not that of the alarm's present claim: the reply says who has it, or that it waits or is closed
--   CHANGED   more events have joined than the operator has seen
--   NOTYET    dispatch is still putting back what this server may have lost: what is closed now could open again. Close a little later
--   BEHIND    this server has lost what it had acknowledged: read the cursor again, and go on from there

local LEASE_MS_MIN, LEASE_MS_MAX = 100, 600000
local OPERATOR_BYTES_MAX, OUTCOME_BYTES_MAX, NOTE_BYTES_MAX = 64, 64, 4096
local CLOSED_KEPT_S = 86400
local REGISTER = 'register:' -- before a register's id, in p:cursors
local GHOST_KEPT_S = 86400
local ACTS_MAX = 100000
local AWAITED_MS = 60000
local SWEEP_MAX = 1000 -- expired leases a call
local LIST_MAX = 10000
local PRIORITY_LAST = 9
local PRIORITY_STEP = 1e13 -- above any ms until 2286; 9e13 + ms stays below 2^53, so that 1 ms still orders
local EARLIER = '(earlier)' -- the account of an alarm that stands for one of before what this server was filled from
local GHOSTS = 'ghosts' -- the reserved site of the alarm that a flood of ghosts becomes
local GHOSTS_NAME = 'Unknown accounts'
local GHOSTS_MAX, GHOSTS_MS = 20, 60000

-- The server's clock: ms and µs since 1970.
local function clock()
  local time = redis.call('TIME')
  local us = time[1] * 1e6 + time[2]
  return math.floor(us / 1000), us
end

-- An integer argument within bounds, else nil.
local function integer(text, min, max)
  local number = tonumber(text)
  if number and number >= min and number <= max and number % 1 == 0 then return number end
end

local function bad(what)
  return redis.error_reply('BADARG ' .. what)
end

local function rank(priority, opened_at)
  return priority * PRIORITY_STEP + opened_at
end

-- What p:ready has to be: else no dispatch has looked at this server since it started, or was emptied.
local function run_id()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end

-- The journals that may still be putting back what was lost. One that is gone, or whose dispatch died over it, is not waited for for ever.
local function awaited(p, now)
  redis.call('ZREMRANGEBYSCORE', p .. ':awaited', '-inf', now)
  local journals = redis.call('ZRANGE', p .. ':awaited', 0, -1)
  if #journals == 0 then redis.call('DEL', p .. ':closing') end
  return journals
end

-- Whether nothing is missing in this queue any more: dispatch has looked since this server started, or was emptied, and no journal is
-- awaited. The second value: those that are.
local function is_ready(p, now)
  local journals = awaited(p, now)
  return #journals == 0 and redis.call('GET', p .. ':ready') == run_id(), journals
end

-- Takes the alarm that is to be claimed next from those that wait; nil where none is.
local function next_waiting(p, now)
  if redis.call('EXISTS', p .. ':closing') == 0 or #awaited(p, now) == 0 then return redis.call('ZPOPMIN', p .. ':waiting')[1] end
  local from = 0
  while true do
    local ids = redis.call('ZRANGE', p .. ':waiting', from, from + 99)
    if #ids == 0 then return nil end
    for i, closing in ipairs(redis.call('SMISMEMBER', p .. ':closing', unpack(ids))) do
      if closing == 0 then
        redis.call('ZREM', p .. ':waiting', ids[i])
        return ids[i]
      end
    end
    from = from + 100
  end
end

-- How far this server is by p:cursors, and the refusal where that is less than the caller has seen it to be.
local function cursor_at(p, name, after)
  local cursor = tonumber(redis.call('HGET', p .. ':cursors', name) or 0)
  if cursor >= after then return cursor end
  return cursor, redis.error_reply(string.format('BEHIND the cursor of %s is %.0f, and was %.0f', name, cursor, after))
end

-- Moves a cursor, never back, and notes the digest of the entry there, where one is told.
local function move_on(p, name, cursor, position, digest)
  if position <= cursor then return end
  redis.call('HSET', p .. ':cursors', name, position)
  if digest ~= '' then redis.call('HSET', p .. ':heads', name, string.format('%.0f %s', position, digest)) end
end

-- The key that holds the alarm while it is open, by the journal that its id names, and the position named there; nil for another id.
local function opened_by(p, id)
  local journal, position = string.match(id, '^(.+)%-(%d+)%-%d+$')
  if journal then return p .. ':opened:' .. journal, position end
end

-- Takes an alarm that is closed, or gone, off those that are open.
local function leave_opened(p, id)
  local opened = opened_by(p, id)
  if opened then redis.call('ZREM', opened, id) end
end

-- What is known of an account that no site names is forgotten, unless an alarm of it is open: strangers are without number.
local function keep_ghost(key)
  if redis.call('HEXISTS', key, 'open') == 1 then redis.call('PERSIST', key) else redis.call('EXPIRE', key, GHOST_KEPT_S) end
end

-- Adds one act to p:acts, and its id to the alarm; call it while the alarm still has its owner. Further arguments: more fields and values.
local function record(p, act, id, ...)
  local key = p .. ':alarm:' .. id
  local alarm = redis.call('HMGET', key, 'site', 'owner', 'fence', 'events', 'priority', 'category', 'life', 'opened_at')
  local cursors, flat = {}, redis.call('HGETALL', p .. ':cursors')
  for i = 1, #flat, 2 do
    if string.sub(flat[i], 1, #REGISTER) ~= REGISTER then
      -- Of the site, which may be ahead of the rest of its batch; that of a flood of ghosts is where the last ghost was put. One that no
      -- entry came to has 0.
      local at = tonumber(redis.call('HGET', p .. ':site:' .. (alarm[1] or ''), 'at:' .. flat[i]) or 0)
      cursors[flat[i]] = at > 0 and at or tonumber(flat[i + 1])
    end
  end
  local opened = opened_by(p, id)
  local needed = opened and redis.call('ZSCORE', opened, id) or 0
  local act_id = redis.call('XADD', p .. ':acts', 'MAXLEN', '~', ACTS_MAX, '*', 'act', act, 'alarm', id, 'site', alarm[1],
    'operator', alarm[2], 'fence', alarm[3], 'events', alarm[4], 'priority', alarm[5], 'category', alarm[6], 'life', alarm[7],
    'opened_at', alarm[8], 'needed', needed, 'cursors', cjson.encode(cursors), ...)
  redis.call('HSET', key, 'act', act_id)
end

-- The alarm is the operator's, for as long as the lease.
local function give(p, id, operator, fence, lease_until)
  redis.call('HSET', p .. ':alarm:' .. id, 'state', 'claimed', 'owner', operator, 'fence', fence, 'lease_until', lease_until)
  redis.call('ZADD', p .. ':claimed', lease_until, id)
end

-- The alarm waits, at its rank; its age is that of its first event, as ever.
local function to_rank(p, id, act)
  local key = p .. ':alarm:' .. id
  local alarm = redis.call('HMGET', key, 'priority', 'opened_at')
  redis.call('ZREM', p .. ':claimed', id)
  redis.call('ZADD', p .. ':waiting', rank(alarm[1], alarm[2]), id)
  redis.call('HSET', key, 'state', 'waiting')
  redis.call('HDEL', key, 'owner', 'fence', 'lease_until')
  if act == 'lease_expired' then redis.call('HINCRBY', key, 'returned', 1) end
end

-- A claimed alarm goes back among the waiting.
local function give_back(p, id, act)
  if redis.call('HEXISTS', p .. ':alarm:' .. id, 'priority') == 0 then -- deleted by hand: one lost alarm must not stop every verb
    redis.call('ZREM', p .. ':claimed', id)
    return leave_opened(p, id)
  end
  record(p, act, id)
  to_rank(p, id, act)
end

-- Returns the alarms whose lease ran out to the queue; says how many. Each verb does this first, so that no dead console holds an alarm.
-- Not while something is being put back: what was claimed when an event came opened no alarm for it, or did, and shall again.
local function sweep(p, now)
  local expired = redis.call('ZRANGE', p .. ':claimed', '-inf', now, 'BYSCORE', 'LIMIT', 0, SWEEP_MAX)
  if #expired == 0 or not is_ready(p, now) then return 0 end
  for _, id in ipairs(expired) do give_back(p, id, 'lease_expired') end
  return #expired
end
