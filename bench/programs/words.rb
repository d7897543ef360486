# Hashes of strings, objects with lists, and text put together and taken apart.
state = 1
random = ->(limit) { (state = (state * 1103515245 + 12345) & 0x7fffffff) % limit }

Node = Struct.new(:name, :parts, :next)

table = Hash.new { |hash, key| hash[key] = [] }
120_000.times do |i|
  table[random.(3001)] << "#{i}:#{'v' * random.(70)}"
  table.delete(random.(2003)) if (i % 4).zero?
end
chain = nil
150_000.times { |i| chain = i % 500 == 0 ? nil : Node.new("n#{i}", [i, i.to_f], chain) }
text = table.sort.flatten.join(',')
parts = text.split(',').group_by(&:size).transform_values(&:count)
puts text.size, parts.size, text.scan(/7+v/).size, chain.name
