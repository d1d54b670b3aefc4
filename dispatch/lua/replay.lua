-- What the dispatcher alone calls, beside put: it brings an empty or older server up to what people have done, and says what is still open.

-- An act, as p:acts had it. ID: its id there. FENCE: a number. OUTCOME, NOTE: of a close, else empty. EVENTS: how many events the alarm had
-- when it was closed; nil where that is not known. OTHERS: journal -> position: how far others than the caller's were applied to its site.
local ID, ACT, ALARM, OPERATOR, FENCE, OUTCOME, NOTE, EVENTS, OTHERS = 1, 2, 3, 4, 5, 6, 7, 8, 9
local LEASE_MS_REPLAYED = 60000

-- An act's time, ms since 1970, and its number in that ms; zeros for what is no act's id.
local function ms_and_number(act_id)
  local ms, number = string.match(act_id or '', '^(%d+)%-(%d+)$')
  return tonumber(ms) or 0, tonumber(number) or 0
end

-- Whether an act came after another; any act comes after none.
local function later(act_id, than)
  local ms, number = ms_and_number(act_id)
  local than_ms, than_number = ms_and_number(than)
  return ms > than_ms or (ms == than_ms and number > than_number)
end

-- Whether another journal, which reports of this site too, is on its way to where it was: it does the act when it is there. Done before, what
-- that journal has put up to then would open again what was closed.
local function too_early(p, site, others)
  for journal, position in pairs(others or {}) do
    local at = redis.call('HGET', p .. ':site:' .. site, 'at:' .. journal)
    if at and tonumber(at) < position and redis.call('ZSCORE', p .. ':awaited', journal) then return true end
  end
  return false
end

-- Whether another journal has put an event into the alarm by now that was not there when it was closed: the number of events does not show it.
local function holds_unseen(p, id, others)
  if not next(others or {}) then return false end
  for _, event in ipairs(redis.call('HKEYS', p .. ':seen:' .. id)) do
    local journal, position = string.match(event, '^(.+)%-(%d+)%-%d+$')
    if others[journal] and tonumber(position) > others[journal] then return true end
  end
  return false
end

-- Does again what was done; says whether it did. A close is the end of an alarm, so it counts though a lease has run out, or somebody has
-- claimed, while the replay was on its way to it; but never over events that whoever closed it has not seen. An alarm that stands for one
-- of before has not the events that were there, and repetitions of those count as more.
local function redo(p, now, act)
  local id, name = act[ALARM], act[ACT]
  local key = p .. ':alarm:' .. id
  local alarm = redis.call('HMGET', key, 'state', 'act', 'site', 'events', 'account')
  if not alarm[1] or alarm[1] == 'closed' or too_early(p, alarm[3], act[OTHERS]) then return false end
  if name == 'close' then
    if act[EVENTS] and alarm[5] ~= EARLIER and tonumber(alarm[4]) > act[EVENTS] or holds_unseen(p, id, act[OTHERS]) then return false end
    redis.call('ZREM', p .. ':waiting', id)
    redis.call('HSET', key, 'owner', act[OPERATOR], 'fence', string.format('%.0f', act[FENCE]))
    shut(p, id, alarm[3], (ms_and_number(act[ID])), act[OUTCOME], act[NOTE])
  elseif not later(act[ID], alarm[2]) then
    return false
  elseif name == 'claim' then
    redis.call('ZREM', p .. ':waiting', id)
    give(p, id, act[OPERATOR], string.format('%.0f', act[FENCE]), now + LEASE_MS_REPLAYED)
  elseif name == 'release' or name == 'lease_expired' then
    to_rank(p, id, name)
  else
    return false
  end
  redis.call('HSET', key, 'act', act[ID])
  return true
end

-- What is done here from now on comes after these acts: in its fence, and in its id, whatever the clock says.
local function carry_on(p, acts)
  local newest, fence = '0-0', tonumber(redis.call('GET', p .. ':fence') or 0)
  for _, act in ipairs(acts) do
    if later(act[ID], newest) then newest = act[ID] end
    fence = math.max(fence, act[FENCE])
  end
  redis.call('SET', p .. ':fence', string.format('%.0f', fence))
  local added = redis.pcall('XADD', p .. ':acts', newest, 'act', 'none') -- refused where the stream is as far
  if type(added) == 'string' then redis.call('XDEL', p .. ':acts', added) end
end

-- arcgate_v1_replay 1 p <register> <position> <after> <acts> <digest>
--
-- Does again what a register holds, and notes how far the register and this server have the same. Acts whose alarm is not here, which was
-- closed already, or has had a later act (but see redo), are left out without a word: the same acts may come any number of times.
--
--   register   the register's id
--   position   the act's place in the register up to which all is done here: p:cursors has it as register:<register>; it never goes back
--   after      the place that the caller knows; where the one here is lower: BEHIND, and nothing is done
--   acts       msgpack, an array of arrays, in the order of the names above. None: acts that come from here have been copied so far
--   digest     that of the register's entry at `position`, hexadecimal, for p:heads, as put has it; empty or left out: none
--
-- Replies how many acts were done again. A claim's lease is 60 s from now; p:acts gains no entry. Errors: BADARG BEHIND.
redis.register_function{function_name = 'arcgate_v1_replay', flags = { 'allow-oom' }, callback = function(keys, args)
  local p, register, digest = keys[1], args[1], args[5] or ''
  local position, after = integer(args[2], 0, 2 ^ 53), integer(args[3], 0, 2 ^ 53)
  if not register or not position or not after or not args[4] then return bad('replay <register> <position> <after> <acts> <digest>') end
  local cursor, behind = cursor_at(p, REGISTER .. register, after)
  if behind then return behind end
  local now, acts, done = clock(), cmsgpack.unpack(args[4]), 0
  for _, act in ipairs(acts) do
    if redo(p, now, act) then done = done + 1 end
  end
  if #acts > 0 then carry_on(p, acts) end
  move_on(p, REGISTER .. register, cursor, position, digest)
  return done
end}

-- arcgate_v1_oldest 1 p <journal>
-- The first position among the journal's entries that opened an alarm which is still open, or that such an alarm's events need; nil where
-- none is open. Errors: BADARG.
redis.register_function{function_name = 'arcgate_v1_oldest', flags = { 'no-writes' }, callback = function(keys, args)
  if not args[1] then return bad('oldest <journal>') end
  return tonumber(redis.call('ZRANGE', keys[1] .. ':opened:' .. args[1], 0, 0, 'WITHSCORES')[2]) or false
end}

-- arcgate_v1_refill 1 p <journal> <last> <ids> <journals>
-- A journal's dispatch begins to put back what was lost, or goes on with it: these alarms (msgpack, an array) will be closed by that, and are
-- kept from the consoles. What was claimed or given back since the loss, that is by an act later than `last`, is taken back as if it had not
-- been. Until `ready`, or until nothing was heard of it for a minute, no alarm can be closed; nor until the other journals known here, or to
-- the caller (msgpack, an array), had a minute to do the same. Replies OK. Errors: BADARG.
redis.register_function{function_name = 'arcgate_v1_refill', flags = { 'allow-oom' }, callback = function(keys, args)
  local p, journal, last = keys[1], args[1], args[2]
  if not last or not args[3] or not args[4] then return bad('refill <journal> <last> <ids> <journals>') end
  local id, wait_until = run_id(), clock() + AWAITED_MS
  if redis.call('GET', p .. ':ready') ~= id then
    redis.call('SET', p .. ':ready', id)
    local others = cmsgpack.unpack(args[4])
    for _, name in ipairs(redis.call('HKEYS', p .. ':cursors')) do others[#others + 1] = name end
    for _, name in ipairs(others) do
      if string.sub(name, 1, #REGISTER) ~= REGISTER then redis.call('ZADD', p .. ':awaited', wait_until, name) end
    end
  end
  redis.call('ZADD', p .. ':awaited', wait_until, journal)
  for _, alarm_id in ipairs(cmsgpack.unpack(args[3])) do
    redis.call('SADD', p .. ':closing', alarm_id)
    local key = p .. ':alarm:' .. alarm_id
    local alarm = redis.call('HMGET', key, 'state', 'act')
    if alarm[1] and later(alarm[2], last) then
      if alarm[1] == 'claimed' then to_rank(p, alarm_id) end
      redis.call('HDEL', key, 'act')
    end
  end
  return redis.status_reply('OK')
end}

-- arcgate_v1_ready 1 p <journal>
-- A journal's dispatch says that this server has all of it that was lost: once all have, every alarm can be claimed and closed again.
-- Replies OK. Errors: BADARG; BEHIND where it is another server by now than the one at which it began.
redis.register_function{function_name = 'arcgate_v1_ready', flags = { 'allow-oom' }, callback = function(keys, args)
  local p = keys[1]
  if not args[1] then return bad('ready <journal>') end
  if redis.call('GET', p .. ':ready') ~= run_id() then return redis.error_reply('BEHIND this server was started, or emptied, meanwhile') end
  redis.call('ZREM', p .. ':awaited', args[1])
  awaited(p, (clock()))
  return redis.status_reply('OK')
end}
