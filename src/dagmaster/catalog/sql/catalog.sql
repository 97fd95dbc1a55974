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
SELECT reach, document -> 'extent' AS extent FROM catalog.collection WHERE id = %(id)s FOR NO KEY UPDATE;

-- name: put_item
-- An item, and what stood there before; a later job's version of it is never replaced by an earlier job's: a token
-- begins with the job's id, whose order is that of time. `created` stays. Run under the lock of the collection.
WITH before AS (
    SELECT west, south, east, north, to_char(starts_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') AS starts_at,
           to_char(ends_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') AS ends_at
    FROM catalog.item WHERE collection_id = %(collection_id)s AND id = %(id)s
)
INSERT INTO catalog.item AS i (collection_id, id, west, south, east, north, starts_at, ends_at, document, attempt_token, updated_at)
VALUES (%(collection_id)s, %(id)s, %(west)s, %(south)s, %(east)s, %(north)s, %(starts_at)s::timestamptz, %(ends_at)s::timestamptz,
        %(document)s::jsonb, %(token)s, clock_timestamp())
ON CONFLICT (collection_id, id) DO UPDATE SET west = excluded.west, south = excluded.south, east = excluded.east,
    north = excluded.north, starts_at = excluded.starts_at, ends_at = excluded.ends_at,
    document = CASE WHEN i.document #> '{properties,created}' IS NULL THEN excluded.document
                    ELSE jsonb_set(excluded.document, '{properties,created}', i.document #> '{properties,created}') END,
    attempt_token = excluded.attempt_token, updated_at = excluded.updated_at
    WHERE i.attempt_token IS NULL OR left(i.attempt_token, 36) COLLATE "C" <= left(excluded.attempt_token, 36)
RETURNING (SELECT to_json(before) FROM before) AS before,
    to_char(starts_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') AS starts_at,
    to_char(ends_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') AS ends_at;

-- name: remove_item
-- An item that is no longer published, and where it lay; a later job's version stays. Run under the lock of the collection.
DELETE FROM catalog.item WHERE collection_id = %(collection_id)s AND id = %(id)s
    AND (attempt_token IS NULL OR left(attempt_token, 36) COLLATE "C" <= left(%(token)s, 36))
RETURNING west, south, east, north, to_char(starts_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') AS starts_at,
    to_char(ends_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') AS ends_at;

-- name: write_extent
-- The extent of a collection, and the union of its items that it was written from.
UPDATE catalog.collection SET reach = %(reach)s::jsonb, document = jsonb_set(document, '{extent}', %(extent)s::jsonb)
WHERE id = %(id)s;

-- name: scan_reach
-- The union of all items of a collection, for when an item was removed or became smaller. See `catalog.extent.Reach`.
SELECT min(south) AS south, max(north) AS north,
       min(CASE WHEN east < west THEN -180 ELSE west END) AS west_0,
       max(CASE WHEN east < west THEN 180 ELSE east END) AS east_0,
       min(from_0) AS begin_180, (array_agg(west ORDER BY from_0))[1] AS west_180,
       max(from_0 + width) AS end_180, (array_agg(east ORDER BY from_0 + width DESC))[1] AS east_180,
       bool_or(from_0 + width > 360) AS over_zero,
       to_char(min(starts_at) FILTER (WHERE starts_at > '0002-01-01') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') AS starts_at,
       to_char(max(ends_at) FILTER (WHERE ends_at > '0002-01-01') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') AS ends_at
FROM (SELECT *, CASE WHEN west < 0 THEN west + 360 ELSE west END AS from_0,
             CASE WHEN east < west THEN east - west + 360 ELSE east - west END AS width
      FROM catalog.item WHERE collection_id = %(id)s) AS placed
HAVING count(*) > 0;

-- name: get_collection
-- One collection.
SELECT document FROM catalog.collection WHERE id = %(id)s;

-- name: list_collections
-- All collections.
SELECT document FROM catalog.collection ORDER BY id;

-- name: get_item
-- One item.
SELECT document FROM catalog.item WHERE collection_id = %(collection_id)s AND id = %(id)s;

-- name: publishes
-- Whether an item or a collection names a file as one of its assets.
SELECT EXISTS (SELECT FROM catalog.item
               WHERE jsonb_path_query_array(document, '$.assets.*.href') @> jsonb_build_array(%(href)s::text))
    OR EXISTS (SELECT FROM catalog.collection
               WHERE jsonb_path_query_array(document, '$.assets.*.href') @> jsonb_build_array(%(href)s::text));

-- name: properties
-- Names and types of single values among the newest items, of one collection or of all.
SELECT key, array_agg(DISTINCT jsonb_typeof(value) ORDER BY jsonb_typeof(value)) AS types
FROM (SELECT document FROM catalog.item
      WHERE %(collection_id)s::text IS NULL OR collection_id = %(collection_id)s
      ORDER BY starts_at DESC LIMIT %(items)s) AS newest, jsonb_each(document -> 'properties')
WHERE jsonb_typeof(value) IN ('string', 'number', 'boolean')
GROUP BY key ORDER BY key COLLATE "C";
