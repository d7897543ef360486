# lua5.4: tables, strings, closures, coroutines and full collections.
needs lua5.4
cat >work.lua <<'SCRIPT'
local state = 1
local function random(limit)
    state = (state * 1103515245 + 12345) & 0x7fffffff
    return state % limit
end

local words, total = {}, 0
for i = 1, 300000 do
    local key = "k" .. random(20011)
    words[key] = (words[key] or "") .. string.char(97 + i % 26)
    if #words[key] > 40 then words[key] = nil end
end
local keys = {}
for key in pairs(words) do keys[#keys + 1] = key end
table.sort(keys)
for i, key in ipairs(keys) do
    total = (total * 31 + #words[key] * i + words[key]:byte()) & 0xffffffff
end
print(#keys, total)
words = nil
collectgarbage()

local tasks = {}
for i = 1, 2000 do
    tasks[i] = coroutine.wrap(function()
        local text = {}
        for j = 1, 20 do
            text[j] = ("%d:%s"):format(i * j, ("z"):rep(random(100)))
            coroutine.yield()
        end
        total = (total + #table.concat(text, ",")) & 0xffffffff
        return true
    end)
end
for _ = 1, 21 do for _, task in ipairs(tasks) do task() end end
print(total)

local text = {}
for i = 1, 60000 do text[i] = tostring(i * i) end
local joined, sevens = table.concat(text, " "), 0
for digits in joined:gmatch("%f[%d]7(%d+)") do sevens = sevens + #digits end
print(#joined, sevens, (joined:gsub("9", "nine")):len())
print(#string.pack("s4", joined), collectgarbage("count") > 0)
SCRIPT
run lua5.4 work.lua
