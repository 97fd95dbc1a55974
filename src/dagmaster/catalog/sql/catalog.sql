-- name: put_collection
-- A collection as a workflow describes it. What people edited stays, the extent only grows.
INSERT INTO catalog.collection AS c (id, document, updated_at)
VALUES (%(id)s, %(document)s::jsonb, clock_timestamp())
ON CONFLICT (id) DO UPDATE SET updated_at = excluded.updated_at,
    document = excluded.document || jsonb_build_object('extent', c.document -> 'extent')
        || (SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(c.document)
            WHERE key IN ('title', 'description', 'license', 'providers', 'summaries', 'keywords'));

-- name: collection_exists
-- Is there such a collection?
SELECT 1 FROM catalog.collection WHERE id = %(id)s;

-- name: put_item
-- An item; a later job's version of it is never replaced by an earlier job's.
INSERT INTO catalog.item AS i (collection_id, id, west, south, east, north, starts_at, ends_at, document, attempt_token, updated_at)
VALUES (%(collection_id)s, %(id)s, %(west)s, %(south)s, %(east)s, %(north)s, %(starts_at)s::timestamptz, %(ends_at)s::timestamptz,
        %(document)s::jsonb, %(token)s, clock_timestamp())
ON CONFLICT (collection_id, id) DO UPDATE SET west = excluded.west, south = excluded.south, east = excluded.east,
    north = excluded.north, starts_at = excluded.starts_at, ends_at = excluded.ends_at, document = excluded.document,
    attempt_token = excluded.attempt_token, updated_at = excluded.updated_at
    WHERE i.attempt_token IS NULL OR i.attempt_token <= excluded.attempt_token;

-- name: refresh_extent
-- The extent of a collection is the union of its items; items without a known time do not count for the interval.
UPDATE catalog.collection c SET document = jsonb_set(c.document, '{extent}', jsonb_build_object(
        'spatial', jsonb_build_object('bbox', jsonb_build_array(jsonb_build_array(e.west, e.south, e.east, e.north))),
        'temporal', jsonb_build_object('interval', jsonb_build_array(jsonb_build_array(
            to_char(e.starts_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            to_char(e.ends_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))))))
FROM (SELECT min(west) AS west, min(south) AS south, max(CASE WHEN east < west THEN 180 ELSE east END) AS east, max(north) AS north,
             min(starts_at) FILTER (WHERE starts_at > '0002-01-01') AS starts_at,
             max(ends_at) FILTER (WHERE ends_at > '0002-01-01') AS ends_at
      FROM catalog.item WHERE collection_id = %(collection_id)s HAVING count(*) > 0) AS e
WHERE c.id = %(collection_id)s;

-- name: get_collection
-- One collection.
SELECT document FROM catalog.collection WHERE id = %(id)s;

-- name: list_collections
-- All collections.
SELECT document FROM catalog.collection ORDER BY id;

-- name: get_item
-- One item.
SELECT document FROM catalog.item WHERE collection_id = %(collection_id)s AND id = %(id)s;

-- name: search_items
-- Items by collection, box, time and id, newest first, by keyset. A box or an item may cross the antimeridian (west > east).
SELECT document, starts_at, collection_id, id FROM catalog.item
WHERE (%(collections)s::text[] IS NULL OR collection_id = ANY (%(collections)s::text[]))
  AND (%(ids)s::text[] IS NULL OR id = ANY (%(ids)s::text[]))
  AND (%(west)s::float8 IS NULL OR (south <= %(north)s AND north >= %(south)s AND (
        CASE WHEN %(west)s <= %(east)s AND west <= east THEN west <= %(east)s AND east >= %(west)s
             WHEN %(west)s <= %(east)s THEN west <= %(east)s OR east >= %(west)s
             WHEN west <= east THEN west <= %(east)s OR east >= %(west)s
             ELSE true END)))
  AND (%(since)s::timestamptz IS NULL OR ends_at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR starts_at <= %(until)s)
  AND (%(after_time)s::timestamptz IS NULL
       OR (starts_at, collection_id, id) < (%(after_time)s::timestamptz, %(after_collection)s, %(after_id)s))
ORDER BY starts_at DESC, collection_id DESC, id DESC LIMIT %(limit)s;

-- name: count_items
-- How many items a search finds.
SELECT count(*)::int FROM catalog.item
WHERE (%(collections)s::text[] IS NULL OR collection_id = ANY (%(collections)s::text[]));
