# ruby: objects, strings, big numbers, threads, forks and a compacting collection.
needs ruby
cat >work.rb <<'SCRIPT'
require 'digest/sha2'  # not when a thread asks first: that races
require 'json'
require 'zlib'

def work(seed)
  state = seed + 1
  table = Hash.new { |h, k| h[k] = [] }
  40_000.times do |i|
    state = (state * 1103515245 + 12345) & 0x7fffffff
    table[state % 3001] << "#{i}:#{'v' * (state % 70)}"
    table.delete(state % 2003) if i % 4 == 0
  end
  Digest::SHA256.hexdigest(table.sort.flatten.join)[0, 16]
end

puts 4.times.map { |n| Thread.new { work(n) } }.map(&:value).join(' ')
300.times.map { |n| Thread.new { 'x' * n * 100 } }.each(&:join)
document = (1..15_000).map { |i| { 'id' => i, 'name' => i.to_s * 4, 'list' => [i, nil, i / 3.0] } }
text = JSON.generate(document)
puts Digest::SHA256.hexdigest(text), JSON.parse(text) == document
puts Zlib.inflate(Zlib.deflate(text)).size, text.scan(/(\d)\1\1/).size, (7**30_000).to_s.size
document = nil
GC.start
GC.compact
readers = 3.times.map do |n|
  from, to = IO.pipe
  fork { from.close; to.write(work(n + 9)); to.close }
  to.close
  from
end
puts readers.map(&:read)
puts Process.waitall.all? { |_, status| status.success? }
SCRIPT
run ruby work.rb
