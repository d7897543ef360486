-- A database in memory: inserts, two indexes, joins, aggregates, updates, deletes.
create table sale(id integer primary key, shop integer, item text, price real, note text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000)
insert into sale select i, i * 7919 % 1009, 'item' || (i * 31 % 19997), (i * 37 % 10000) / 8.0,
    printf('%.*c', i * 13 % 200, 'n') from n;
create index sale_shop on sale(shop, price);
create index sale_item on sale(item);
select count(*), sum(price), count(distinct item), max(length(note)) from sale;
select a.shop, count(*), sum(b.price) from sale a join sale b on a.item = b.item and a.id < b.id
    where a.shop < 300 group by a.shop order by 3 desc limit 10;
select item, count(*), group_concat(distinct shop % 13) from sale group by item
    order by 2 desc, 1 limit 10;
update sale set note = note || item where id % 3 = 0;
delete from sale where id % 7 = 0;
create table summary as select shop, item, sum(price) total from sale group by shop, item;
select count(*), sum(total) from summary;
select shop, rank() over (order by sum(total) desc) place from summary group by shop limit 5;
