-- name: search_page
-- One page of a search; its conditions, its order and what is looked at closer are put in from the pieces below.
SELECT document::text AS document, {geometry} AS geometry, {truths} AS truths, {keys} AS keys, collection_id, id
FROM catalog.item WHERE {conditions} ORDER BY {order} LIMIT {limit}

-- name: no_geometry
-- When no shape is asked for.
NULL::text

-- name: geometry
-- What shapes are compared with.
(document -> 'geometry')::text

-- name: no_truths
-- When no shape is asked for.
NULL::boolean[]

-- name: truths
-- The whole condition for every combination of answers of the shapes.
ARRAY[{all}]::boolean[]

-- name: keys
-- The place of an item in the order, as text without loss.
ARRAY[{all}]::text[]

-- name: of_collections
-- Collections by id.
collection_id = ANY ({given}::text[])

-- name: of_ids
-- Items by id.
id = ANY ({given}::text[])

-- name: near_box
-- What an index finds near a small box. Items are indexed by a box that may go on beyond 180, therefore the three boxes.
-- It finds a little too much. Postgres takes every box for a small one, so that it is no help with a large one.
(catalog.box(west, south, east, north) && catalog.box({west}, {south}, {east}, {north})
 OR catalog.box(west, south, east, north) && catalog.box({west} + 360, {south}, {east} + 360, {north})
 OR catalog.box(west, south, east, north) && catalog.box({west} - 360, {south}, {east} - 360, {north}))

-- name: in_box
-- Items whose box touches a box. A box or an item may cross the antimeridian (west > east).
(south <= {north} AND north >= {south}
 AND CASE WHEN {west} <= {east} AND west <= east THEN west <= {east} AND east >= {west}
          WHEN {west} <= {east} OR west <= east THEN west <= {east} OR east >= {west}
          ELSE true END)

-- name: not_before
-- Items that end at a time or later.
ends_at >= {given}::timestamptz

-- name: not_after
-- Items that begin at a time or earlier.
starts_at <= {given}::timestamptz

-- name: order_time
-- The usual order. UTC, because Python cannot hold year 1 in a zone west of it.
starts_at

-- name: order_time_key
-- A place in that order.
(starts_at AT TIME ZONE 'UTC')::text

-- name: order_time_value
-- A place in that order, read back.
({given}::timestamp AT TIME ZONE 'UTC')

-- name: order_missing
-- Items that have no such property come last, in whatever direction.
({value} IS NULL)

-- name: order_missing_value
-- A place among those, read back.
{given}::boolean

-- name: order_json
-- Items by a property, as jsonb orders values.
coalesce({value}, 'null'::jsonb)

-- name: order_json_value
-- A place in that order, read back.
{given}::jsonb

-- name: order_moment
-- A property that is a time, as the number of seconds: times may be written in several ways.
to_jsonb(extract(epoch FROM catalog.moment({value} #>> '{{}}')))

-- name: order_text
-- An id.
{value}

-- name: order_text_value
-- An id, read back.
{given}::text

-- name: as_key
-- A place in any order, as text.
({value})::text

-- name: ascending
-- Smallest first.
{value} ASC

-- name: descending
-- Greatest first.
{value} DESC

-- name: behind_all_descending
-- Items behind a place when everything descends; an index serves it.
({left}) < ({right})

-- name: behind_all_ascending
-- Items behind a place when everything ascends.
({left}) > ({right})

-- name: behind_descending
-- Items behind a place by this value, or by the next where this one is equal.
({left} < {right} OR ({left} = {right} AND {rest}))

-- name: behind_ascending
-- Items behind a place by this value, or by the next where this one is equal.
({left} > {right} OR ({left} = {right} AND {rest}))

-- name: behind_last_descending
-- Items behind a place by the last value.
{left} < {right}

-- name: behind_last_ascending
-- Items behind a place by the last value.
{left} > {right}

-- name: collection_id
-- A column of the table.
collection_id

-- name: id
-- A column of the table.
id

-- name: starts_at
-- A column of the table.
starts_at

-- name: property
-- A value of the document; a JSON null is as good as none.
nullif(document #> {path}::text[], 'null'::jsonb)

-- name: true
-- A constant.
TRUE

-- name: false
-- A constant.
FALSE

-- name: no_boolean
-- A column that has another type.
NULL::boolean

-- name: no_text
-- A column that has another type.
NULL::text

-- name: no_number
-- A column that has another type.
NULL::numeric

-- name: no_moment
-- A column that has another type.
NULL::timestamptz

-- name: and
-- Both.
({left} AND {right})

-- name: or
-- Either.
({left} OR {right})

-- name: not
-- Neither true nor unknown.
(NOT {value})

-- name: is_null
-- Whether there is no value.
({value} IS NULL)

-- name: equal
-- A comparison.
({left} = {right})

-- name: unequal
-- A comparison.
({left} <> {right})

-- name: less
-- A comparison.
({left} < {right})

-- name: less_or_equal
-- A comparison.
({left} <= {right})

-- name: greater
-- A comparison.
({left} > {right})

-- name: greater_or_equal
-- A comparison.
({left} >= {right})

-- name: between
-- A comparison with both ends included.
({left} BETWEEN {low} AND {high})

-- name: like
-- % stands for anything, _ for one letter, \ takes their meaning away.
({left} LIKE {right})

-- name: lower
-- For comparisons that do not tell capital from small letters.
lower({value})

-- name: json_as_text
-- A value where it is text, else none.
(CASE WHEN jsonb_typeof({value}) = 'string' THEN {value} #>> '{{}}' END COLLATE "C")

-- name: json_as_number
-- A value where it is a number, else none.
(CASE WHEN jsonb_typeof({value}) = 'number' THEN ({value})::numeric END)

-- name: json_as_boolean
-- A value where it is a boolean, else none.
(CASE WHEN jsonb_typeof({value}) = 'boolean' THEN ({value})::boolean END)

-- name: json_as_moment
-- A value where it is a time, else none.
catalog.moment(CASE WHEN jsonb_typeof({value}) = 'string' THEN {value} #>> '{{}}' END)

-- name: column_as_text
-- An id.
({value} COLLATE "C")

-- name: text
-- A literal.
{given}::text COLLATE "C"

-- name: number
-- A literal.
{given}::numeric

-- name: boolean
-- A literal.
{given}::boolean

-- name: moment
-- A literal.
{given}::timestamptz

-- name: bounded
-- No search holds the database for longer than this.
SELECT set_config('statement_timeout', {given}::text, true)
