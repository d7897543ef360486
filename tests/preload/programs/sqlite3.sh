# sqlite3: a database in memory, then one in a file with a write-ahead log; joins, indexes, window
# functions, JSON, vacuum.
needs sqlite3
cat >work.sql <<'SQL'
create table item(id integer primary key, grp integer, name text, price real, extra text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000)
insert into item select i, i * 7919 % 503, 'name' || (i * 31 % 9973), (i * 37 % 1000) / 8.0,
    json_object('tags', json_array(i % 5, 'x' || i % 77), 'text', printf('%.*c', i % 90, 'y'))
    from n;
create index item_grp on item(grp, price);
create index item_name on item(name);
select count(*), sum(price), count(distinct name), max(length(extra)) from item;
select a.grp, count(*), sum(b.price) from item a join item b on a.name = b.name and a.id < b.id
    where a.grp < 40 group by a.grp order by 3 desc, 1 limit 5;
select grp, name, rank() over (partition by grp order by price desc, id),
    sum(price) over (order by id) from item where id % 1000 = 7 order by id limit 5;
select json_extract(extra, '$.tags[1]') tag, count(*), group_concat(distinct grp % 7)
    from item group by tag order by 2 desc, 1 limit 5;
update item set name = name || '-' || grp where id % 3 = 0;
delete from item where id % 11 = 0;
select count(*), sum(length(name)) from item where name like '%-1%' or name glob 'name*7';
vacuum;
pragma integrity_check;
SQL
run sqlite3 :memory: <work.sql
{ echo 'pragma journal_mode=wal; pragma cache_size=200;'; cat work.sql; } | run sqlite3 file.db
run sqlite3 file.db .dump | sha256sum
