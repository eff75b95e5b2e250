package org.apache.iceberg.nessie;

import java.util.HashMap;
import java.util.Map;

import org.apache.iceberg.rest.RESTCatalog;

/**
 * Lets Presto 0.287 use an Iceberg REST catalogue, which it learnt in 0.288.
 *
 * <p>For {@code iceberg.catalog.type=nessie} the connector loads a class of this name. The plugin's own Iceberg library
 * brings a REST client: this class is that client under the name Presto looks for, and leaves out what only Nessie
 * understands.
 */
public class NessieCatalog extends RESTCatalog
{
    @Override
    public void initialize(String name, Map<String, String> properties)
    {
        Map<String, String> understood = new HashMap<>(properties);
        understood.keySet().removeIf(key -> key.equals("ref") || key.startsWith("ref."));
        super.initialize(name, understood);
    }
}
