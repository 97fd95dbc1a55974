-- name: put_collection
-- A collection as a workflow describes it. What people edited stays, the extent only grows, an older job changes nothing.
INSERT INTO catalog.collection AS c (id, document, attempt_token, updated_at)
VALUES (%(id)s, %(document)s::jsonb, %(token)s, clock_timestamp())
ON CONFLICT (id) DO UPDATE SET updated_at = excluded.updated_at, attempt_token = excluded.attempt_token,
    document = excluded.document || jsonb_build_object('extent', c.document -> 'extent')
        || (SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(c.document)
            WHERE key IN ('title', 'description', 'license', 'providers', 'summaries', 'keywords'))
    WHERE c.attempt_token IS NULL OR left(c.attempt_token, 36) COLLATE "C" <= left(excluded.attempt_token, 36);

-- name: lock_collection
-- The collection that an item joins, locked: whoever widens its extent next must see this item.
SELECT 1 FROM catalog.collection WHERE id = %(id)s FOR NO KEY UPDATE;

-- name: put_item
-- An item; a later job's version of it is never replaced by an earlier job's: a token begins with the job's id, whose
-- order is that of time. `created` stays.
INSERT INTO catalog.item AS i (collection_id, id, west, south, east, north, starts_at, ends_at, document, attempt_token, updated_at)
VALUES (%(collection_id)s, %(id)s, %(west)s, %(south)s, %(east)s, %(north)s, %(starts_at)s::timestamptz, %(ends_at)s::timestamptz,
        %(document)s::jsonb, %(token)s, clock_timestamp())
ON CONFLICT (collection_id, id) DO UPDATE SET west = excluded.west, south = excluded.south, east = excluded.east,
    north = excluded.north, starts_at = excluded.starts_at, ends_at = excluded.ends_at,
    document = CASE WHEN i.document #> '{properties,created}' IS NULL THEN excluded.document
                    ELSE jsonb_set(excluded.document, '{properties,created}', i.document #> '{properties,created}') END,
    attempt_token = excluded.attempt_token, updated_at = excluded.updated_at
    WHERE i.attempt_token IS NULL OR left(i.attempt_token, 36) COLLATE "C" <= left(excluded.attempt_token, 36);

-- name: refresh_extent
-- The extent of a collection is the union of its items; items without a known time do not count for the interval.
-- Of the two boxes around all items, one over longitude 0 and one over longitude 180 (west > east), the narrower is taken.
UPDATE catalog.collection c SET document = jsonb_set(c.document, '{extent}', jsonb_build_object(
        'spatial', jsonb_build_object('bbox', jsonb_build_array(
            CASE WHEN NOT e.over_zero AND e.width_180 < e.width_0 - 1e-9 THEN jsonb_build_array(e.west_180, e.south, e.east_180, e.north)
                 ELSE jsonb_build_array(e.west_0, e.south, e.east_0, e.north) END)),
        'temporal', jsonb_build_object('interval', jsonb_build_array(jsonb_build_array(
            regexp_replace(to_char(e.starts_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '\.000000$', '') || 'Z',
            regexp_replace(to_char(e.ends_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '\.000000$', '') || 'Z')))))
FROM (SELECT min(south) AS south, max(north) AS north,
             min(CASE WHEN east < west THEN -180 ELSE west END) AS west_0,
             max(CASE WHEN east < west THEN 180 ELSE east END) AS east_0,
             max(CASE WHEN east < west THEN 180 ELSE east END) - min(CASE WHEN east < west THEN -180 ELSE west END) AS width_0,
             (array_agg(west ORDER BY from_0))[1] AS west_180,
             (array_agg(east ORDER BY from_0 + width DESC))[1] AS east_180,
             max(from_0 + width) - min(from_0) AS width_180,
             bool_or(from_0 + width > 360) AS over_zero,
             min(starts_at) FILTER (WHERE starts_at > '0002-01-01') AS starts_at,
             max(ends_at) FILTER (WHERE ends_at > '0002-01-01') AS ends_at
      FROM (SELECT *, CASE WHEN west < 0 THEN west + 360 ELSE west END AS from_0,
                   CASE WHEN east < west THEN east - west + 360 ELSE east - west END AS width
            FROM catalog.item WHERE collection_id = %(collection_id)s) AS placed
      HAVING count(*) > 0) AS e
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
-- Items by collection, box, time and id, newest first, by keyset. A box or an item may cross the antimeridian
-- (west > east). The time is given in UTC, because Python cannot hold year 1 in a zone west of it.
SELECT document, starts_at AT TIME ZONE 'UTC' AS at_utc, collection_id, id FROM catalog.item
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
