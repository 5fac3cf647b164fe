-- Takes over what members have abandoned, except what was deleted for its age, and what is new.
-- Where there is neither, nothing is written: a write wakes all readers.
DELETE FROM streamll_claims WHERE target = :target AND name = :group AND since < :now - :claim_after
    AND entry NOT IN (SELECT id FROM streamll_entries);
UPDATE streamll_claims
    SET member = :member, since = :now, deliveries = deliveries + (member != :member)
    WHERE target = :target AND name = :group AND entry IN (SELECT entry FROM streamll_claims
        WHERE target = :target AND name = :group AND since < :now - :claim_after
        ORDER BY entry LIMIT :limit);
INSERT INTO streamll_claims SELECT :target, :group, id, :member, :now, 1 FROM streamll_entries
    WHERE target = :target AND id > (SELECT position FROM streamll_groups
        WHERE target = :target AND name = :group) ORDER BY id LIMIT :limit;
UPDATE streamll_groups
    SET position = (SELECT max(entry) FROM streamll_claims
        WHERE target = :target AND name = :group)
    WHERE target = :target AND name = :group AND position < (SELECT max(entry) FROM streamll_claims
        WHERE target = :target AND name = :group);

-- What was claimed, oldest first.
SELECT id, body, deliveries FROM streamll_claims JOIN streamll_entries ON id = entry
    WHERE streamll_claims.target = :target AND name = :group AND member = :member AND since = :now
    ORDER BY id
