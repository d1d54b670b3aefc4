-- arcgate_v1_put 1 p <journal> <position> <changes> <after> <digest>
--
-- Commits what was decided for a batch of a journal's entries: each site's new state, what the queue does with its events, and the cursor.
--
--   journal    the journal's id
--   position   the last entry of the batch: the cursor moves there, never back, and only if no change was left out
--   changes    msgpack, an array with one array for each site that the batch touches, and in it one for each event, in the order of
--              the names below (arrays: read twice as fast as maps)
--   after      the cursor that the caller knows; where the one here is lower: BEHIND, and nothing is done
--   digest     that of the journal's entry at `position`, hexadecimal: it goes to p:heads where the cursor moves; empty or left out: none
--
-- Replies msgpack: {moved = [{site, version, state, at}, ...], placed = [[event id, alarm id, what, the alarm's priority], ...]}
--   moved      the changes left out: what their sites hold now (at = the last position of this journal); decide again on that. With one
--              ghost all are left out
--   what       opened; joined; raised (joined, and made the alarm more urgent); repeated (a retransmission, counted);
--              logged (no alarm: nothing was open to join; alarm id = "")
-- An event that an open alarm holds already is not put twice, and is not in `placed`.

-- A change. VERSION: the one that was decided on; where the site has another, the change is left out. STATE: the site's new state (text,
-- opaque here). POSITION: the site's last entry in this batch. GHOST: true for an account that no site names.
local SITE, NAME, VERSION, STATE, POSITION, GHOST, EVENTS = 1, 2, 3, 4, 5, 6, 7
-- An event. AT: when it was received. ACTION: "raise" | "join". LIFE: true for life-safety. STEPS, BODY: JSON. REPEAT_OF: an event's id, or nil.
-- NEEDS: the id of an event without whose entry this one would have been decided otherwise, or nil.
local ID, AT, ACTION, PRIORITY, LIFE, ACCOUNT, CATEGORY, LABEL, INSTRUCTION, STEPS, BODY, REPEAT_OF, NEEDS = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13

-- The alarms of a site's field `open`, oldest first.
local function open_alarms(p, ids)
  local open = {}
  for id in string.gmatch(ids or '', '%S+') do
    local key = p .. ':alarm:' .. id
    local alarm = redis.call('HMGET', key, 'state', 'life', 'priority', 'opened_at', 'category')
    if alarm[1] then
      open[#open + 1] = {
        id = id, key = key, seen = p .. ':seen:' .. id, claimed = alarm[1] == 'claimed', life = alarm[2] == '1',
        priority = tonumber(alarm[3]), opened_at = tonumber(alarm[4]), category = alarm[5],
      }
    end
  end
  return open
end

-- Which of the open alarms, but for one, has the event.
local function holder(open, event_id, but)
  for _, alarm in ipairs(open) do
    if alarm ~= but and redis.call('HEXISTS', alarm.seen, event_id) == 1 then return alarm end
  end
end

-- Nothing about these goes to the premises, so their steps must be the ones that the operator reads.
local SILENT = { hold_up = true, duress = true, panic = true }

-- The open alarm that an event joins: of its own category if there is one, so that a restore meets its alarm. A life-safety event never
-- joins what an operator has in hand as something lesser.
local function joinable(open, event)
  if not event[LIFE] then
    for _, alarm in ipairs(open) do
      if alarm.category == event[CATEGORY] then return alarm end
    end
    return open[1]
  end
  for _, alarm in ipairs(open) do
    if not alarm.claimed or (alarm.life and alarm.priority <= event[PRIORITY]) then return alarm end
  end
end

-- Adds the event: the same few writes whatever the alarm holds already. Returns what was done, nil where the alarm has it already.
local function join(p, alarm, event)
  if redis.call('HSETNX', alarm.seen, event[ID], 1) == 0 then return end
  redis.call('RPUSH', p .. ':events:' .. alarm.id, event[BODY])
  redis.call('HINCRBY', alarm.key, 'events', 1)
  if event[LIFE] and not alarm.life then
    redis.call('HSET', alarm.key, 'life', 1)
    alarm.life = true
  end
  local silent = event[PRIORITY] == alarm.priority and event[LIFE] and SILENT[event[CATEGORY]] and not SILENT[alarm.category]
  if event[PRIORITY] >= alarm.priority and not silent then return 'joined' end
  redis.call('HSET', alarm.key, 'priority', event[PRIORITY], 'category', event[CATEGORY], 'label', event[LABEL],
    'instruction', event[INSTRUCTION], 'steps', event[STEPS])
  if not alarm.claimed then redis.call('ZADD', p .. ':waiting', rank(event[PRIORITY], alarm.opened_at), alarm.id) end
  alarm.priority, alarm.category = event[PRIORITY], event[CATEGORY]
  return 'raised'
end

-- Opens an alarm with the event. Returns it, or nil where the event has opened one before, closed since.
local function open_alarm(p, site, name, ghost, event)
  local id, life = event[ID], event[LIFE] and 1 or 0
  local key, seen = p .. ':alarm:' .. id, p .. ':seen:' .. id
  if redis.call('HSETNX', seen, id, 1) == 0 then return end
  redis.call('HSET', key, 'id', id, 'site', site, 'name', name, 'account', event[ACCOUNT], 'priority', event[PRIORITY],
    'category', event[CATEGORY], 'label', event[LABEL], 'instruction', event[INSTRUCTION], 'steps', event[STEPS], 'state', 'waiting',
    'opened_at', event[AT], 'events', 1, 'repeats', 0, 'returned', 0, 'life', life, 'ghost', ghost and 1 or 0)
  redis.call('RPUSH', p .. ':events:' .. id, event[BODY])
  redis.call('ZADD', p .. ':waiting', rank(event[PRIORITY], event[AT]), id)
  local opened, position = opened_by(p, id)
  if opened then redis.call('ZADD', opened, position, id) end
  local ids = redis.call('HGET', p .. ':site:' .. site, 'open')
  redis.call('HSET', p .. ':site:' .. site, 'open', ids and ids .. ' ' .. id or id)
  if ghost then keep_ghost(p .. ':site:' .. site) end
  return { id = id, key = key, seen = seen, claimed = false, life = event[LIFE], priority = event[PRIORITY], opened_at = event[AT],
    category = event[CATEGORY] }
end

-- Whether the minute before `at` has opened as many ghost alarms as people can look at.
local function ghosts_flood(p, at)
  local from = string.format('(%.0f', at - GHOSTS_MS)
  return redis.call('ZCOUNT', p .. ':ghosts', from, at) >= GHOSTS_MAX
end

local function note_ghost(p, at, id)
  redis.call('ZREMRANGEBYSCORE', p .. ':ghosts', '-inf', at - GHOSTS_MS)
  redis.call('ZADD', p .. ':ghosts', at, id)
end

-- A refill, which begins at the oldest open alarm, has to begin at the entry that this event needs: the alarm is as old as that.
local function keep_from(p, alarm, event)
  local opened, _ = opened_by(p, alarm.id)
  local needed, position = opened_by(p, event[NEEDS])
  if opened and opened == needed then redis.call('ZADD', opened, 'LT', position, alarm.id) end
end

-- Puts an event that repeats nothing in an open alarm. Arguments and replies are those of `place`.
local function put_anew(p, change, open, flood, event)
  local alarm = event[ACCOUNT] ~= EARLIER and joinable(open, event) or nil
  if holder(open, event[ID], alarm) or holder(flood, event[ID]) then return end
  if alarm then return alarm, join(p, alarm, event) end
  if event[ACTION] == 'join' and not event[LIFE] then return nil, 'logged' end

  local site, name, ghost, among = change[SITE], change[NAME], change[GHOST], open
  local flooded = ghost and not event[LIFE] and ghosts_flood(p, event[AT])
  if flooded then
    if flood[1] then return flood[1], join(p, flood[1], event) end
    site, name, among = GHOSTS, GHOSTS_NAME, flood
  end
  alarm = open_alarm(p, site, name, ghost, event)
  if not alarm then return end
  among[#among + 1] = alarm
  if ghost and not flooded then note_ghost(p, event[AT], alarm.id) end
  return alarm, 'opened'
end

-- Finds the event its place. `open`: its site's open alarms; `flood`: those of the reserved site, for a ghost, else empty.
-- Returns the alarm (nil where it is only logged) and what was done (nil where the event was put before).
local function place(p, change, open, flood, event)
  local repeated = event[REPEAT_OF]
  local alarm = repeated and (holder(open, repeated) or holder(flood, repeated))
  if alarm then
    local count = redis.call('HGET', alarm.seen, repeated)
    redis.call('HINCRBY', alarm.seen, tonumber(count) and repeated or count, 1)
    redis.call('HINCRBY', alarm.key, 'repeats', 1)
    return alarm, 'repeated'
  end
  local what
  alarm, what = put_anew(p, change, open, flood, event)
  if alarm and what then
    if repeated then redis.call('HSETNX', alarm.seen, repeated, event[ID]) end -- so that the next one is counted there
    if event[NEEDS] then keep_from(p, alarm, event) end
  end
  return alarm, what
end

-- Places an event, and tells in `placed` what was done.
local function place_and_tell(p, change, open, flood, event, placed)
  local alarm, what = place(p, change, open, flood, event)
  if what then placed[#placed + 1] = { event[ID], alarm and alarm.id or '', what, alarm and alarm.priority or event[PRIORITY] } end
end

-- Places the events of all ghosts in the order in which they came: they have a limit together, so what opens an alarm of its own, and what
-- joins the flood's, would else follow from what happened to be in one batch.
local function place_strangers(p, journal, strangers, placed)
  if #strangers == 0 then return end
  table.sort(strangers, function(a, b) return a.position < b.position or (a.position == b.position and a.number < b.number) end)
  local flood = open_alarms(p, redis.call('HGET', p .. ':site:' .. GHOSTS, 'open'))
  for _, one in ipairs(strangers) do
    place_and_tell(p, one.change, one.open, flood, one.event, placed)
  end
  redis.call('HSET', p .. ':site:' .. GHOSTS, 'at:' .. journal, strangers[#strangers].position)
end

-- Whether all ghosts hold what was decided on: if one has to be decided again, all wait for it, so that they are placed in order.
local function ghosts_fit(p, changes)
  for _, change in ipairs(changes) do
    if change[GHOST] and tonumber(redis.call('HGET', p .. ':site:' .. change[SITE], 'version') or 0) ~= change[VERSION] then return false end
  end
  return true
end

-- Applies one site's change, adding to `placed`, or to `strangers` what is to be placed with all of those; or returns what the site holds
-- now, where it is not what was decided on, or `wait`.
local function apply(p, journal, change, wait, placed, strangers)
  local key, at = p .. ':site:' .. change[SITE], 'at:' .. journal
  local site = redis.call('HMGET', key, 'version', 'open', at)
  local version = tonumber(site[1] or 0)
  if wait or version ~= change[VERSION] then
    local now = redis.call('HMGET', key, 'state', at)
    return { site = change[SITE], version = version, state = now[1] or '', at = tonumber(now[2] or 0) }
  end
  if #change[EVENTS] > 0 then
    local open = open_alarms(p, site[2])
    for _, event in ipairs(change[EVENTS]) do
      if change[GHOST] then
        local _, came_at = opened_by(p, event[ID])
        strangers[#strangers + 1] = { change = change, open = open, event = event, position = tonumber(came_at) or 0, number = #strangers }
      else
        place_and_tell(p, change, open, {}, event, placed)
      end
    end
  end
  local applied = math.max(change[POSITION], tonumber(site[3] or 0)) -- what the gateway says of itself is of no entry: 0
  redis.call('HSET', key, 'version', version + 1, 'state', change[STATE], at, applied)
  if change[GHOST] then keep_ghost(key) end
end

redis.register_function('arcgate_v1_put', function(keys, args)
  local p, journal, digest = keys[1], args[1], args[5] or ''
  local position, after = integer(args[2], 0, 2 ^ 53), integer(args[4], 0, 2 ^ 53)
  if not journal or not position or not args[3] or not after then return bad('put <journal> <position> <changes> <after> <digest>') end
  local cursor, behind = cursor_at(p, journal, after)
  if behind then return behind end
  local now = clock()
  sweep(p, now)
  redis.call('ZADD', p .. ':awaited', 'XX', now + AWAITED_MS, journal) -- it goes on
  local changes, moved, placed, strangers = cmsgpack.unpack(args[3]), {}, {}, {}
  local fit = ghosts_fit(p, changes)
  for _, change in ipairs(changes) do
    moved[#moved + 1] = apply(p, journal, change, change[GHOST] and not fit, placed, strangers)
  end
  place_strangers(p, journal, strangers, placed)
  if #moved == 0 then move_on(p, journal, cursor, position, digest) end
  return cmsgpack.pack({ moved = moved, placed = placed })
end)
