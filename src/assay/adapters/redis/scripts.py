"""The Lua that runs inside Redis: one write, and two reads of more than the newest rows.

A script runs alone, so what it writes is seen whole or not at all. It looks at everything before it
writes anything. Redis keeps no half of it either: a script's writes go to the append-only file and
to replicas as one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha1

# Strings are compared byte by byte. Lua's own < asks the C library's collation, which in many
# locales does not sort bytes; and its numbers are doubles, too short for nanoseconds, but not for
# the halves of one.
# A packed row: layout in bytes 1 and 2, checksum, then from byte 9 on event time, known time,
# source rank and sequence, eight bytes each, little endian.
_COMMON = """
local byte, sub = string.byte, string.sub
local HEADER = 72

-- Whether the little-endian number at `at` of a packed row is at most the big-endian `limit`.
local function upto(packed, at, limit)
  local a, b = (byte(packed, at + 7) + 128) % 256, byte(limit, 1)
  if a ~= b then return a < b end
  for i = 2, 8 do
    a, b = byte(packed, at + 8 - i), byte(limit, i)
    if a ~= b then return a < b end
  end
  return true
end
"""

_WRITE = """
-- KEYS: the view's marker, a key that never exists, then newest and earlier of each entity.
-- ARGV: rows kept beside the newest; the layout's two bytes; for each entity how many rows (int32)
-- and the life of its last one in milliseconds or -1 (double); the length of each row (int32); all
-- rows, packed and end to end, by entity in ascending order.
-- Answer: rows added and whether the marker is new, or a reason below zero and which row.
local CONFLICT, FOREIGN, CUT = -1, -2, -3
local call, unpack_words, pack_words = redis.call, struct.unpack, struct.pack
-- Before 7.0 a server may be set to log scripts instead of what they wrote; from the first answer
-- that depends on its clock on it would then refuse to write.
if redis.replicate_commands then redis.replicate_commands() end

-- Negative, zero or positive, as the place of the packed row a is before, at or after that of b.
-- Half of a number fits into a double, with its sign.
local function order(a, b)
  for at = 9, 33, 8 do
    local low_a, high_a = unpack_words('<I4i4', a, at)
    local low_b, high_b = unpack_words('<I4i4', b, at)
    if high_a ~= high_b then return high_a - high_b end
    if low_a ~= low_b then return low_a - low_b end
  end
  return 0
end

-- The place of a packed row as bytes that sort as places do.
local HALVES, SIGN, BEYOND = 'I4I4I4I4I4I4I4I4', 2 ^ 31, 2 ^ 32
local LITTLE, BIG = '<' .. HALVES, '>' .. HALVES
local function place(packed)
  local a, b, c, d, e, f, g, h = unpack_words(LITTLE, packed, 9)
  return pack_words(BIG, (b + SIGN) % BEYOND, a, (d + SIGN) % BEYOND, c,
    (f + SIGN) % BEYOND, e, (h + SIGN) % BEYOND, g)
end

-- What is held of every entity: fewer commands, and each of them costs as much as moving a row.
local AT_ONCE = 1000
local held_rows = {}
for first = 3, #KEYS, 2 * AT_ONCE do
  local names = {}
  for key = first, math.min(first + 2 * AT_ONCE - 2, #KEYS), 2 do names[#names + 1] = KEYS[key] end
  for _, held in ipairs(call('MGET', unpack(names))) do held_rows[#held_rows + 1] = held end
end

local kept, layout, shape, lengths, packed_rows =
  tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
-- Of each entity that changes eight values, one behind the other: a table for each costs more.
local FIELDS, work, size = 8, {}, 0
local added, row, at, starts = 0, 0, 1, 1
for key = 3, #KEYS, 2 do
  local newest, earlier = KEYS[key], KEYS[key + 1]
  -- MGET says of a key that holds something else that there is none; GET refuses it.
  local held = held_rows[(key - 1) / 2] or call('GET', newest)
  local count = call('ZCARD', earlier)
  local rows, life
  rows, life, at = unpack_words('<i4d', shape, at)
  if held and #held < HEADER then return {CUT, row} end
  if held and sub(held, 1, 2) ~= layout then return {FOREIGN, row} end
  local older, newer, last = false, false, false  -- the last of the newer ones is the new newest
  for number = row, row + rows - 1 do
    local length = unpack_words('<i4', lengths, 4 * number + 1)
    local packed = sub(packed_rows, starts, starts + length - 1)
    starts = starts + length
    local compared = (last or not held) and 1 or order(packed, held)
    if compared > 0 then
      if last then
        newer = newer or {}
        newer[#newer + 1] = last
      end
      last = packed
      added = added + 1
    elseif compared == 0 then
      if packed ~= held then return {CONFLICT, number} end
    else
      local where = place(packed)
      local found = count > 0 and
        call('ZRANGEBYLEX', earlier, '[' .. where, '(' .. where .. '\\255', 'LIMIT', 0, 1)[1]
      if not found then
        older = older or {}
        older[#older + 1] = where .. packed
        added = added + 1
      elseif sub(found, 33) ~= packed then
        return {CONFLICT, number}
      end
    end
  end
  if older or last then
    work[size + 1], work[size + 2], work[size + 3] = newest, earlier, held
    work[size + 4], work[size + 5], work[size + 6] = count, older, newer
    work[size + 7], work[size + 8] = last, life
    size = size + FIELDS
  end
  row = row + rows
end
if added == 0 then return {0, 0} end

-- From here on nothing may fail, or half of the batch would stay. So every command that writes is
-- tried on a key that never exists: what this user, this server or this disk refuses, it refuses
-- now.
local nothing = KEYS[2]
call('SET', nothing, '', 'XX')
call('ZADD', nothing, 'XX', 0, '')
call('ZREMRANGEBYRANK', nothing, 1, 0)
call('PEXPIREAT', nothing, 1)
call('PERSIST', nothing)
call('DEL', nothing)

local now
local function ends(life)
  if not now then
    local time = call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  return string.format('%.0f', now + life)
end

-- The marker's value: whether any row of the view was ever given an end.
local LASTING, ENDING = '1', '2'
local marked = call('GET', KEYS[1])
local longest = -1
for one = 1, size, FIELDS do
  local newest, earlier, held, count = work[one], work[one + 1], work[one + 2], work[one + 3]
  local older, newer, last, life = work[one + 4], work[one + 5], work[one + 6], work[one + 7]
  -- Without its newest row an entity has none: what is left over expired or was deleted by hand.
  -- And a store that kept more versions may have been here.
  if count > 0 and (not held or kept == 0) then
    call('DEL', earlier)
    count = 0
  end
  if kept > 0 then
    local changed = count
    if older then
      for _, member in ipairs(older) do call('ZADD', earlier, 0, member) end
      changed = changed + #older
    end
    if last and held then
      call('ZADD', earlier, 0, place(held) .. held)
      changed = changed + 1
    end
    if newer then
      for _, packed in ipairs(newer) do call('ZADD', earlier, 0, place(packed) .. packed) end
      changed = changed + #newer
    end
    if changed > kept then call('ZREMRANGEBYRANK', earlier, 0, -kept - 1) end
    if last and life >= 0 then
      if changed > 0 then call('PEXPIREAT', earlier, ends(life)) end
    elseif last then
      if count > 0 and marked ~= LASTING then call('PERSIST', earlier) end
    elseif count == 0 then
      local left = call('PTTL', newest)
      if left > 0 then call('PEXPIREAT', earlier, ends(left)) end
    end
  end
  if last and life >= 0 then
    call('SET', newest, last, 'PXAT', ends(life))
    longest = math.max(longest, life)
  elseif last then
    call('SET', newest, last)
    longest = math.huge
  end
end

local left = call('PTTL', KEYS[1])  -- -2: there is none; -1: it never ends
local ends_some = longest >= 0 and longest < math.huge or marked == ENDING
local value = ends_some and ENDING or LASTING
if left ~= -1 and (longest == math.huge or longest < 0 and left == -2) then
  call('SET', KEYS[1], value)
elseif left ~= -1 and left < longest then
  call('SET', KEYS[1], value, 'PXAT', ends(longest))
elseif value ~= marked then
  call('SET', KEYS[1], value, 'KEEPTTL')
end
return {added, left == -2 and 1 or 0}
"""

_AS_OF = """
-- KEYS: newest and earlier of each entity. ARGV: the moment, eight bytes, and the first place after
-- it as a bound of a sorted set. Answer: for each entity the newest visible row, packed, or nil.
local moment, bound = ARGV[1], ARGV[2]
local CHUNK = 16
local answer = {}

local function search(earlier)
  local skipped = 0
  while true do
    local found =
      redis.call('ZREVRANGEBYLEX', earlier, bound, '-', 'LIMIT', skipped, CHUNK)
    for _, member in ipairs(found) do
      local row = sub(member, 33)
      if #row < HEADER or upto(row, 17, moment) then return row end
    end
    if #found < CHUNK then return false end
    skipped = skipped + CHUNK
  end
end

for key = 1, #KEYS, 2 do
  local held = redis.call('GET', KEYS[key])
  if held and #held >= HEADER and not (upto(held, 9, moment) and upto(held, 17, moment)) then
    held = search(KEYS[key + 1])
  end
  answer[#answer + 1] = held
end
return answer
"""

_HISTORY = """
-- KEYS: newest and earlier of one entity. Answer: the newest row, packed, then the earlier ones,
-- each behind its place, in ascending order; nothing where there is no newest.
local held = redis.call('GET', KEYS[1])
if not held then return {} end
return {held, redis.call('ZRANGE', KEYS[2], 0, -1)}
"""


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name by which a server that has it knows it."""

    source: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        # The name that Redis gives it; nothing is secret about it.
        digest = sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)


WRITE = Script(_COMMON + _WRITE)
AS_OF = Script(_COMMON + _AS_OF)
HISTORY = Script(_HISTORY)

CONFLICT, FOREIGN_LAYOUT, CUT_SHORT = -1, -2, -3
"""Why a write was refused, as :data:`WRITE` answers it."""
