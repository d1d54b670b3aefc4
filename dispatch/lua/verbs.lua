-- The verbs of a console, and what it may read.

-- The error reply of a verb whose fence is not that of the alarm's present claim; nil where it is.
local function fenced(p, id, fence, now)
  local key = p .. ':alarm:' .. id
  local alarm = redis.call('HMGET', key, 'state', 'fence', 'owner', 'lease_until')
  local state = alarm[1]
  if not state then return redis.error_reply('NOALARM ' .. id .. ' is not here, or was closed more than a day ago') end
  if state == 'claimed' and tonumber(alarm[4]) <= now and is_ready(p, now) then -- beyond what one sweep takes
    give_back(p, id, 'lease_expired')
    state = 'waiting'
  end
  if state == 'waiting' then return redis.error_reply('FENCED ' .. id .. ' waits in the queue: claim it first') end
  if state == 'closed' then return redis.error_reply('FENCED ' .. id .. ' was closed by ' .. alarm[3]) end
  if alarm[2] ~= fence then return redis.error_reply('FENCED ' .. id .. ' is claimed by ' .. alarm[3]) end
end

-- arcgate_v1_claim 1 p <operator> <lease ms>
-- Gives the most urgent, then oldest, waiting alarm to the operator (1 to 64 bytes) for the lease (100 ms to 10 min).
-- Replies the alarm, an array of field, value, ...; nil where nothing waits. Its `fence` goes with every later verb. Errors: BADARG.
redis.register_function{function_name = 'arcgate_v1_claim', flags = { 'allow-oom' }, callback = function(keys, args)
  local p, operator, lease = keys[1], args[1], integer(args[2], LEASE_MS_MIN, LEASE_MS_MAX)
  if not operator or #operator == 0 or #operator > OPERATOR_BYTES_MAX then return bad('the operator is 1 to 64 bytes') end
  if not lease then return bad('the lease is 100 to 600000 ms') end
  local now, us = clock()
  sweep(p, now)
  while true do
    local id = next_waiting(p, now)
    if not id then return false end
    local key = p .. ':alarm:' .. id
    if redis.call('HEXISTS', key, 'site') == 1 then -- else what is there is no alarm of ours
      -- Never lower than before, even where a failover lost the last fence: the clock has gone on.
      local fence = string.format('%.0f', math.max(tonumber(redis.call('GET', p .. ':fence') or 0) + 1, us))
      redis.call('SET', p .. ':fence', fence)
      give(p, id, operator, fence, now + lease)
      record(p, 'claim', id)
      return redis.call('HGETALL', key)
    end
    leave_opened(p, id)
  end
end}

-- arcgate_v1_renew 1 p <id> <fence> <lease ms>
-- The lease now ends that long from now; replies its end. Errors: BADARG NOALARM FENCED.
redis.register_function{function_name = 'arcgate_v1_renew', flags = { 'allow-oom' }, callback = function(keys, args)
  local p, id, lease = keys[1], args[1], integer(args[3], LEASE_MS_MIN, LEASE_MS_MAX)
  if not lease then return bad('renew <id> <fence> <lease ms, 100 to 600000>') end
  local now = clock()
  sweep(p, now)
  local refusal = fenced(p, id, args[2], now)
  if refusal then return refusal end
  redis.call('HSET', p .. ':alarm:' .. id, 'lease_until', now + lease)
  redis.call('ZADD', p .. ':claimed', now + lease, id)
  return now + lease
end}

-- arcgate_v1_release 1 p <id> <fence>
-- The alarm goes back to its rank. Replies OK. Errors: BADARG NOALARM FENCED.
redis.register_function{function_name = 'arcgate_v1_release', flags = { 'allow-oom' }, callback = function(keys, args)
  local p, id, fence = keys[1], args[1], args[2]
  if not fence then return bad('release <id> <fence>') end
  local now = clock()
  sweep(p, now)
  local refusal = fenced(p, id, fence, now)
  if refusal then return refusal end
  give_back(p, id, 'release')
  return redis.status_reply('OK')
end}

-- Takes the alarm off its site's open ones.
local function leave_site(p, site, id)
  local key, open = p .. ':site:' .. site, {}
  for other in string.gmatch(redis.call('HGET', key, 'open') or '', '%S+') do
    if other ~= id then open[#open + 1] = other end
  end
  if #open > 0 then redis.call('HSET', key, 'open', table.concat(open, ' ')) else redis.call('HDEL', key, 'open') end
  if string.sub(site, 1, 6) == 'ghost:' then keep_ghost(key) end
end

-- The alarm is closed, and forgotten a day later; its owner and fence stay. An empty note is none.
local function shut(p, id, site, closed_at, outcome, note)
  local key = p .. ':alarm:' .. id
  redis.call('HSET', key, 'state', 'closed', 'closed_at', closed_at, 'outcome', outcome)
  if note ~= '' then redis.call('HSET', key, 'note', note) end
  redis.call('HDEL', key, 'lease_until')
  redis.call('ZREM', p .. ':claimed', id)
  leave_opened(p, id)
  leave_site(p, site, id)
  for _, kind in ipairs({ ':alarm:', ':events:', ':seen:' }) do redis.call('EXPIRE', p .. kind .. id, CLOSED_KEPT_S) end
end

-- arcgate_v1_close 1 p <id> <fence> <events seen> <outcome> <note>
-- Closes the alarm: outcome is 1 to 64 bytes, the note at most 4096 (empty: none). Replies OK. Errors: BADARG NOALARM FENCED CHANGED NOTYET.
redis.register_function{function_name = 'arcgate_v1_close', flags = { 'allow-oom' }, callback = function(keys, args)
  local p, id, fence, seen, outcome, note = keys[1], args[1], args[2], integer(args[3], 0, 2 ^ 53), args[4], args[5]
  if not seen then return bad('events seen is a whole number') end
  if not outcome or #outcome == 0 or #outcome > OUTCOME_BYTES_MAX then return bad('the outcome is 1 to 64 bytes') end
  if not note or #note > NOTE_BYTES_MAX then return bad('the note is at most 4096 bytes') end
  local now = clock()
  sweep(p, now)
  local refusal = fenced(p, id, fence, now)
  if refusal then return refusal end
  local alarm = redis.call('HMGET', p .. ':alarm:' .. id, 'events', 'site')
  if tonumber(alarm[1]) > seen then
    return redis.error_reply(string.format('CHANGED %s events, you have seen %.0f', alarm[1], seen))
  end
  local ready, journals = is_ready(p, now)
  if not ready then
    return redis.error_reply(string.format('NOTYET what this server may have lost is being put back%s: keep %s, and close it in a moment',
      #journals > 0 and ' from ' .. table.concat(journals, ' ') or '', id))
  end
  record(p, 'close', id, 'outcome', outcome, 'note', note)
  shut(p, id, alarm[2], now, outcome, note)
  return redis.status_reply('OK')
end}

-- arcgate_v1_expire 1 p
-- Returns alarms whose lease ran out to the queue, at most 1000; replies how many. Every verb does so first: this is for when none is called.
redis.register_function{function_name = 'arcgate_v1_expire', flags = { 'allow-oom' }, callback = function(keys)
  return sweep(keys[1], (clock()))
end}

-- arcgate_v1_list 1 p <limit>
-- The open alarms, waiting and claimed, most urgent first, then oldest; limit is 1 to 10000. Replies an array of alarms as claim replies them.
redis.register_function{function_name = 'arcgate_v1_list', flags = { 'no-writes' }, callback = function(keys, args)
  local p, limit = keys[1], integer(args[1], 1, LIST_MAX)
  if not limit then return bad('the limit is 1 to 10000') end
  local ranked, flat = {}, redis.call('ZRANGE', p .. ':waiting', 0, limit - 1, 'WITHSCORES')
  for i = 1, #flat, 2 do ranked[#ranked + 1] = { id = flat[i], rank = tonumber(flat[i + 1]) } end
  for _, id in ipairs(redis.call('ZRANGE', p .. ':claimed', 0, -1)) do
    local alarm = redis.call('HMGET', p .. ':alarm:' .. id, 'priority', 'opened_at')
    if alarm[1] then ranked[#ranked + 1] = { id = id, rank = rank(alarm[1], alarm[2]) } end
  end
  table.sort(ranked, function(a, b) return a.rank < b.rank or (a.rank == b.rank and a.id < b.id) end)
  local alarms = {}
  for i = 1, math.min(limit, #ranked) do alarms[i] = redis.call('HGETALL', p .. ':alarm:' .. ranked[i].id) end
  return alarms
end}

-- arcgate_v1_counts 1 p
-- How many alarms are open, waiting or claimed: an array of priority, count, ... for the priorities that have any.
redis.register_function{function_name = 'arcgate_v1_counts', flags = { 'no-writes' }, callback = function(keys)
  local p, counts, reply = keys[1], {}, {}
  for priority = 0, PRIORITY_LAST do
    counts[priority] = redis.call('ZCOUNT', p .. ':waiting', rank(priority, 0), string.format('(%.0f', rank(priority + 1, 0)))
  end
  for _, id in ipairs(redis.call('ZRANGE', p .. ':claimed', 0, -1)) do
    local priority = tonumber(redis.call('HGET', p .. ':alarm:' .. id, 'priority'))
    if priority then counts[priority] = counts[priority] + 1 end
  end
  for priority = 0, PRIORITY_LAST do
    if counts[priority] > 0 then
      reply[#reply + 1] = priority
      reply[#reply + 1] = counts[priority]
    end
  end
  return reply
end}
