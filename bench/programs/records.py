"""Dictionaries, sorting, text and JSON: what a script that digests records does."""
import collections
import hashlib
import json

state = 1


def random(limit):
    global state
    state = (state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
    return (state >> 33) % limit


class Sale:
    __slots__ = ("shop", "item", "price")

    def __init__(self, shop, item, price):
        self.shop, self.item, self.price = shop, item, price


sales = [Sale(f"shop{random(997)}", f"item{random(20011)}", random(10000) / 8)
         for _ in range(60000)]
by_shop = collections.defaultdict(list)
for sale in sales:
    by_shop[sale.shop].append(sale)
totals = {shop: (sum(s.price for s in some), sorted({s.item for s in some}))
          for shop, some in by_shop.items()}
text = json.dumps(totals, sort_keys=True)
again = json.loads(text)
words = collections.Counter(word[4:] for _, items in again.values() for word in items)
lines = [" ".join((key, str(count))) for key, count in words.most_common()]
lines.sort(key=lambda line: line[::-1])
for _ in range(3):
    trees = None
    for _ in range(40000):
        trees = (trees, [random(9)], {"n": trees}) if random(50) else None
print(len(text), len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16])
