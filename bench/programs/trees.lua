-- Binary trees that live short and long, and tables of strings.
local function make(depth)
    if depth == 0 then return {} end
    return { make(depth - 1), make(depth - 1) }
end

local function count(tree) return tree[1] and 1 + count(tree[1]) + count(tree[2]) or 1 end

local kept = make(14)
local total = 0
for depth = 4, 14, 2 do
    for _ = 1, 1 << (14 - depth + 2) do total = total + count(make(depth)) end
end
print(count(kept), total)

local state = 1
local function random(limit)
    state = (state * 1103515245 + 12345) & 0x7fffffff
    return state % limit
end

local words = {}
for i = 1, 200000 do
    local key = "k" .. random(20011)
    words[key] = (words[key] or "") .. string.char(97 + i % 26)
    if #words[key] > 40 then words[key] = nil end
end
local keys = {}
for key in pairs(words) do keys[#keys + 1] = key end
table.sort(keys)
print(#keys, #table.concat(keys))
