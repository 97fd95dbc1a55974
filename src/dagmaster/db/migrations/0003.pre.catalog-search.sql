-- What the embedded catalog needs to search, to widen extents without a rescan, and to know its files.
-- depends: 0001.pre.control-plane

-- The union of a collection's items in a form that can be widened by one item, and the extent that was written from it.
-- NULL, or another extent in the document, means that the items have to be looked at again.
ALTER TABLE catalog.collection ADD COLUMN reach jsonb;

-- A time as items write it, or NULL when the text is none: items may hold what no schema has seen.
CREATE FUNCTION catalog.moment(text) RETURNS timestamptz LANGUAGE plpgsql STABLE STRICT
    SET timezone = 'UTC' SET datestyle = 'ISO, YMD' AS $$
BEGIN
    IF $1 !~ '^\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:?\d\d))?$' THEN
        RETURN NULL;
    END IF;
    RETURN $1::timestamptz;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;

-- A box as Postgres indexes it; one that crosses the antimeridian (west > east) goes on beyond 180.
CREATE FUNCTION catalog.box(west double precision, south double precision, east double precision, north double precision)
    RETURNS box LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN box(point(west, south), point(CASE WHEN east < west THEN east + 360 ELSE east END, north));

CREATE INDEX item_by_box ON catalog.item USING gist (catalog.box(west, south, east, north));

-- The files that items publish; nothing else is served.
CREATE INDEX item_by_file ON catalog.item USING gin (jsonb_path_query_array(document, '$.assets.*.href') jsonb_path_ops);
